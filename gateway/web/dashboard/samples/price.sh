curl --fail-with-body -X POST "$GATEWAY_URL/api/music_generate?dry_run=true" \
  -H "X-Api-Key: $API_KEY" \
  -H "Content-Type: application/json" \
  -d '{"prompt": "slow piano", "durationSeconds": 60, "sampleCount": 2}'
