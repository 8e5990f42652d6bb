import requests
url = "https://taiapi.aiphotocraft.com/api/music_generate"
headers = {
"X-Api-Key": "YOUR_API_KEY",
"accept": "application/json",
"Content-Type": "application/json",
}
payload = {
"prompt": "uplifting electronic track with soft piano and warm pads",
"durationSeconds": 30,
"sampleCount": 1,
}
response = requests.post(url, headers=headers, json=payload)
response.raise_for_status()
data = response.json()
print("Music URL:", data.get("audio_url"))
