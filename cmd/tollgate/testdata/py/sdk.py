"""Everything of issue 3's API through the OpenAI SDK, with base_url and api_key alone.

Usage: sdk.py BASE_URL KEY CHAT_MODEL EMBEDDING_MODEL AUDIO_MODEL

Prints one JSON line for each call that used a model: the request's id and the
tokens that the answer stated. An assertion that fails is the exit code.
"""

import json
import sys

import openai
import requests

base_url, key, chat_model, embedding_model, audio_model = sys.argv[1:]
client = openai.OpenAI(base_url=base_url, api_key=key, max_retries=0, timeout=30)


def told(call, response, model, tokens_in, tokens_out):
    print(json.dumps({
        "call": call, "requestId": response.headers["x-request-id"], "model": model,
        "input": tokens_in, "output": tokens_out,
    }), flush=True)


# Chat, as JSON.
for extra in ({}, {"max_tokens": 5}, {"n": 2, "max_completion_tokens": 7}):
    raw = client.chat.completions.with_raw_response.create(
        model=chat_model,
        messages=[{"role": "system", "content": "be brief"}, {"role": "user", "content": "Hello there, world"}],
        **extra,
    )
    answer = raw.parse()
    assert answer.model == chat_model, answer
    assert len(answer.choices) == extra.get("n", 1), answer
    words = sum(len(c.message.content.split()) for c in answer.choices)
    assert words == answer.usage.completion_tokens, answer
    assert answer.usage.prompt_tokens == 2 + 3 + 2 * 3, answer
    told("chat", raw, chat_model, answer.usage.prompt_tokens, answer.usage.completion_tokens)

# Chat, as a stream: events pass through as they are, with and without the usage.
for options in (None, {"include_usage": True}, {"include_usage": False}):
    stream = client.chat.completions.create(
        model=chat_model, messages=[{"role": "user", "content": "Tell me a story"}], stream=True,
        extra_headers={"x-backend-tokens": "40"}, **({"stream_options": options} if options else {}),
    )
    text, events, usage = "", 0, None
    for chunk in stream:
        events += 1
        usage = chunk.usage or usage
        if chunk.choices:
            text += chunk.choices[0].delta.content or ""
    assert len(text.split()) == 40, text
    assert events >= 40 / 8, events
    assert (usage is not None) == bool(options and options["include_usage"]), (options, usage)

# Embeddings: the SDK asks for base64 and decodes it.
raw = client.embeddings.with_raw_response.create(model=embedding_model, input=["one two three", "four"])
answer = raw.parse()
assert [len(d.embedding) for d in answer.data] == [384, 384], answer
assert answer.usage.prompt_tokens == 4, answer.usage
told("embeddings", raw, embedding_model, 4, 0)

# A transcription by the SDK, which sends the model first.
raw = client.audio.transcriptions.with_raw_response.create(model=audio_model, file=("speech.wav", b"\0" * 2500))
answer = raw.parse()
assert answer.usage.input_tokens == 3, answer
assert len(answer.text.split()) == answer.usage.output_tokens, answer
told("transcription", raw, audio_model, answer.usage.input_tokens, answer.usage.output_tokens)

# The same with the file before the model, as curl -F file=… -F model=… sends it.
raw = requests.post(
    base_url + "/audio/transcriptions", headers={"Authorization": "Bearer " + key.strip()}, timeout=30,
    files=[("file", ("speech.wav", b"\0" * 2500)), ("model", (None, audio_model))],
)
assert raw.status_code == 200, raw.text
assert raw.json()["text"] == answer.text, raw.text
told("transcription", raw, audio_model, 3, raw.json()["usage"]["output_tokens"])

# The list of models.
ids = [m.id for m in client.models.list()]
for model in (chat_model, embedding_model, audio_model):
    assert model in ids, ids
