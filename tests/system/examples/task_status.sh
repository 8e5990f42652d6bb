curl -X GET "https://taiapi.aiphotocraft.com/api/task-status/{task_id}" \
-H "accept: application/json" \
-H "X-Api-Key: YOUR_API_KEY"
