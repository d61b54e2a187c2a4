curl -X POST https://cloud.podstack.ai/inference/v1/chat/completions \
-H "Authorization: Bearer YOUR_INFERENCE_KEY" \
-H "Content-Type: application/json" \
-d '{
"model": "meta-llama/Llama-3.1-8B-Instruct",
"messages": [{"role": "user", "content": "Hello!"}]
}'
