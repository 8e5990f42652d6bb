for again in 1 2; do
  curl --fail-with-body -X POST "$GATEWAY_URL/api/music_generate" \
    -H "X-Api-Key: $API_KEY" -H "Idempotency-Key: jingle-2026-11-26" \
    -H "Content-Type: application/json" -d '{"prompt": "a short jingle", "durationSeconds": 5}'
done
