curl -X POST "https://api.minimax.chat/v1/text/chatcompletion_v2" \
-H "Authorization: Bearer your_minimax_api_key" \
-H "Content-Type: application/json" \
-d '{
"model": "abab6.5s-chat",
"messages": [{"role": "user", "content": "Hello!"}]
}'
