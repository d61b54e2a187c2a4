// Use API key authentication via Authorization header.
const API_KEY = "YOUR_API_KEY";
const BASE = 'https://staging.minibase.ai/api.php';

async function infer(prompt) {
const res = await fetch(BASE, {
method: 'POST',
headers: {
'Authorization': `Bearer ${API_KEY}`,
'Content-Type': 'application/x-www-form-urlencoded'
},
body: new URLSearchParams({
action: 'mt_inference',
model_id: 'micro_base_t11_1755574721',
prompt,
max_tokens: '128',
temperature: '0.7',
format: 'json'
})
}).then(r => r.json());
console.log(res);
}

// Usage:
// await infer('Explain quantum entanglement in one sentence.');
