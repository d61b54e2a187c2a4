import openai
client = openai.OpenAI(
api_key="YOUR_INFERENCE_KEY",
base_url="https://cloud.podstack.ai/inference/v1"
)
response = client.chat.completions.create(
model="meta-llama/Llama-3.1-8B-Instruct",
messages=[{"role": "user", "content": "Hello!"}]
)
