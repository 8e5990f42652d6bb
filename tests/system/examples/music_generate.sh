curl -X POST "https://taiapi.aiphotocraft.com/api/music_generate" \
-H "X-Api-Key: YOUR_API_KEY" \
-H "accept: application/json" \
-H "Content-Type: application/json" \
-d '{
"prompt": "uplifting electronic track with soft piano and warm pads"
}'
