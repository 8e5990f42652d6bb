curl --fail-with-body -X POST "$GATEWAY_URL/api/music_generate" \
  -H "X-Api-Key: $API_KEY" \
  -H "Content-Type: application/json" \
  -d '{"prompt": "uplifting electronic track with soft piano", "durationSeconds": 10}'
