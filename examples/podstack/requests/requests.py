import requests
headers = {
"Authorization": "Bearer YOUR_INFERENCE_KEY",
"Content-Type": "application/json"
}
response = requests.post(
"https://cloud.podstack.ai/inference/v1/chat/completions",
headers=headers,
json={
"model": "meta-llama/Llama-3.1-8B-Instruct",
"messages": [{"role": "user", "content": "Hello!"}]
}
)
