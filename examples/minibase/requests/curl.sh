# Use API key authentication via Authorization header.
API_KEY="YOUR_API_KEY"
BASE="https://staging.minibase.ai/api.php"

# Call inference directly with API key
curl -s -X POST "$BASE" \
-H "Authorization: Bearer $API_KEY" \
--data-urlencode "action=mt_inference" \
--data-urlencode "model_id=micro_base_t11_1755574721" \
--data-urlencode "prompt=Explain quantum entanglement in one sentence." \
--data-urlencode "max_tokens=128" \
--data-urlencode "temperature=0.7" \
--data-urlencode "format=json"
