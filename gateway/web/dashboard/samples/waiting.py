import os

import requests

api = requests.Session()
api.headers["X-Api-Key"] = os.environ["API_KEY"]
url = os.environ["GATEWAY_URL"]

accepted = api.post(
    f"{url}/api/music_generate",
    headers={"Prefer": "respond-async"},
    json={"prompt": "slow piano", "durationSeconds": 10},
    timeout=30,
)
accepted.raise_for_status()
task = accepted.json()
while task["finished_at"] is None:
    answer = api.get(
        f"{url}/api/task-status/{task['task_id']}", headers={"Prefer": "wait=60"}, timeout=90
    )
    answer.raise_for_status()
    task = answer.json()
print(task["status"], task["audio_url"])
