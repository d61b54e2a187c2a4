import requests

API_KEY = "your_minimax_api_key"
url = "https://api.minimax.chat/v1/text/chatcompletion_v2"
headers = {
"Authorization": f"Bearer {API_KEY}",
"Content-Type": "application/json"
}
data = {
"model": "abab6.5s-chat",
"messages": [
{"role": "user", "content": "Hello, MiniMax!"}
]
}
response = requests.post(url, headers=headers, json=data)
print(response.json())
