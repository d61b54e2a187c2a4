"""What the OpenAI SDK makes of refusals.

Usage: refusals.py BASE_URL KEY REVOKED_KEY MODEL COLD_MODEL

COLD_MODEL is one that is not deployed.
"""

import sys

import openai

base_url, key, revoked, model, cold = sys.argv[1:]


def refused(api_key, expected, model=model, headers=None):
    client = openai.OpenAI(base_url=base_url, api_key=api_key, max_retries=0, timeout=30)
    try:
        client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "hi"}], extra_headers=headers or {},
        )
    except openai.APIStatusError as e:
        assert type(e) is expected, (type(e), e)
        assert isinstance(e.body, dict) and e.message and e.type, e.response.text
        assert set(e.response.json()["error"]) == {"message", "type", "param", "code"}, e.response.text
        assert api_key not in e.response.text, "the refusal repeats the key"
        return e
    raise AssertionError(f"{expected} was not raised")


wrong = key[:-1] + ("a" if key[-1] != "a" else "b")
for name, presented, headers in (
    ("missing", key, {"Authorization": openai.Omit()}),
    ("empty", key, {"Authorization": "Bearer"}),
    ("wrong", wrong, None),
    ("malformed", "sk-nothing-of-ours", None),
    ("long", "x" * 5000, None),
    ("revoked", revoked, None),
):
    e = refused(presented, openai.AuthenticationError, headers=headers)
    assert e.code == "invalid_api_key", (name, e.body)

e = refused(key, openai.NotFoundError, model="no/such-model")
assert e.code == "model_not_found" and "no/such-model" in e.message, e.body

e = refused(key, openai.NotFoundError, model=cold)
assert e.code == "model_not_deployed" and cold in e.message and "not deployed" in e.message, e.body

client = openai.OpenAI(base_url=base_url, api_key=revoked, max_retries=0, timeout=30)
for call in (
    lambda: client.models.list(),
    lambda: client.embeddings.create(model=model, input="x"),
    lambda: client.audio.transcriptions.create(model=model, file=("a.wav", b"\0")),
):
    try:
        call()
    except openai.AuthenticationError:
        continue
    raise AssertionError("a revoked key was let through")
