"""Azure's client of the OpenAI SDK, with an endpoint, a key and an API version.

Usage: azure.py ENDPOINT KEY CHAT_MODEL EMBEDDING_MODEL

Prints the ids of the requests that used a model. An assertion that fails is the
exit code.
"""

import sys

import openai

endpoint, key, chat_model, embedding_model = sys.argv[1:]
settings = {"azure_endpoint": endpoint, "api_version": "2024-10-21", "max_retries": 0, "timeout": 30}
messages = [{"role": "user", "content": "Tell me a story"}]

client = openai.AzureOpenAI(api_key=key, **settings)
raw = client.chat.completions.with_raw_response.create(model=chat_model, messages=messages)
assert raw.parse().usage.completion_tokens > 0, raw.text
print(raw.headers["x-request-id"])

# The model in the endpoint.
deployed = openai.AzureOpenAI(api_key=key, azure_deployment=chat_model, **settings)
raw = deployed.chat.completions.with_raw_response.create(model=chat_model, messages=messages)
print(raw.headers["x-request-id"])
try:
    deployed.chat.completions.create(model="another", messages=messages)
    raise SystemExit("two models in one request passed")
except openai.BadRequestError as e:
    assert e.code == "invalid_request", e

# A stream, whose usage nobody asked for.
stream = client.chat.completions.create(model=chat_model, messages=messages, stream=True)
print(stream.response.headers["x-request-id"])
chunks = list(stream)
assert all(c.usage is None for c in chunks), chunks

raw = client.embeddings.with_raw_response.create(model=embedding_model, input=["one two"])
assert raw.parse().usage.prompt_tokens == 2, raw.text
print(raw.headers["x-request-id"])

# Where the path has no deployment.
assert chat_model in [m.id for m in client.models.list()]

# The newer API, below /openai/v1.
newer = openai.OpenAI(base_url=endpoint + "/openai/v1", api_key=key, max_retries=0, timeout=30)
raw = newer.chat.completions.with_raw_response.create(model=chat_model, messages=messages)
print(raw.headers["x-request-id"])

try:
    openai.AzureOpenAI(api_key="wrong", **settings).chat.completions.create(model=chat_model, messages=messages)
    raise SystemExit("a wrong key passed")
except openai.AuthenticationError as e:
    assert e.code == "invalid_api_key", e
