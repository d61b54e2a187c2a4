# Use API key authentication via Authorization header.
import requests

API_KEY = "YOUR_API_KEY"
BASE = "https://staging.minibase.ai/api.php"

# Call inference directly with API key
r = requests.post(BASE,
headers={'Authorization': f'Bearer {API_KEY}'},
data={
'action': 'mt_inference',
'model_id': 'micro_base_t11_1755574721',
'prompt': 'Explain quantum entanglement in one sentence.',
'max_tokens': '128',
'temperature': '0.7',
'format': 'json'
}
)
print(r.json())
