"""What the OpenAI SDK does at a limit of requests per minute.

Usage: limits.py BASE_URL KEY MODEL LIMIT

KEY has a limit of LIMIT requests per minute and has made none.
"""

import sys
import time

import openai

base_url, key, model, limit = sys.argv[1:]
limit = int(limit)


def ask(retries=0):
    client = openai.OpenAI(base_url=base_url, api_key=key, max_retries=retries, timeout=30)
    return client.chat.completions.with_raw_response.create(
        model=model, messages=[{"role": "user", "content": "hi"}], max_tokens=1,
    )


for n in range(limit):
    h = ask().headers
    assert h["x-ratelimit-limit-requests"] == str(limit), dict(h)
    assert h["x-ratelimit-remaining-requests"] == str(limit - 1 - n), dict(h)
    assert h["x-ratelimit-reset-requests"], dict(h)

try:
    ask()
    raise AssertionError("one more than the limit was let through")
except openai.RateLimitError as e:
    h = e.response.headers
    assert e.code == "rate_limit_exceeded", e.body
    assert h["x-ratelimit-limit-requests"] == str(limit), dict(h)
    assert h["x-ratelimit-remaining-requests"] == "0", dict(h)
    after, after_ms = int(h["retry-after"]), float(h["retry-after-ms"])
    assert 1 <= after <= 66 and 0 < after_ms <= 66_000, dict(h)
    assert after - 1 <= after_ms / 1000 <= after, dict(h)
    assert "x-should-retry" not in h, dict(h)

# The SDK waits for as long as it is told. The waiting itself is left out.
slept = []
time.sleep = slept.append
try:
    ask(retries=2)
    raise AssertionError("one more than the limit was let through")
except openai.RateLimitError as e:
    assert len(slept) == 2, slept
    last = float(e.response.headers["retry-after-ms"]) / 1000
    for seconds in slept:
        assert last <= seconds < last + 10, (slept, last)
