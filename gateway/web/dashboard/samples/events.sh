TASK=$(curl --fail-with-body -s -X POST "$GATEWAY_URL/api/music_generate" \
  -H "X-Api-Key: $API_KEY" -H "Prefer: respond-async" \
  -H "Content-Type: application/json" -d '{"prompt": "slow piano", "durationSeconds": 10}' \
  | python3 -c 'import json, sys; print(json.load(sys.stdin)["task_id"])')
curl --fail-with-body -N "$GATEWAY_URL/api/task-status/$TASK/events" -H "X-Api-Key: $API_KEY"
