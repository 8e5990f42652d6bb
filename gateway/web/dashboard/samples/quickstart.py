import os

import requests

response = requests.post(
    f"{os.environ['GATEWAY_URL']}/api/music_generate",
    headers={"X-Api-Key": os.environ["API_KEY"]},
    json={"prompt": "uplifting electronic track with soft piano", "durationSeconds": 10},
    timeout=300,
)
response.raise_for_status()
print(response.json()["audio_url"])
