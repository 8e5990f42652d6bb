import requests
url = "https://taiapi.aiphotocraft.com/api/music_generate_lyria"
headers = {
"X-Api-Key": "YOUR_API_KEY",
"accept": "application/json",
"Content-Type": "application/json",
}
payload = {
"prompt": "An uplifting and hopeful orchestral piece with soaring strings.",
"negative_prompt": "dissonant, minor key",
"sampleCount": 1,
"seed": 0,
}
response = requests.post(url, headers=headers, json=payload)
response.raise_for_status()
data = response.json()
print("Lyria music URL:", data.get("audio_url"))
