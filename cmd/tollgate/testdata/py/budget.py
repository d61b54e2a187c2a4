"""What the OpenAI SDK does when a budget is used up.

Usage: budget.py BASE_URL KEY MODEL

KEY has a budget of which nothing is left.
"""

import sys
import time

import openai

base_url, key, model = sys.argv[1:]
slept = []
time.sleep = slept.append  # as the SDK does before it tries again
client = openai.OpenAI(base_url=base_url, api_key=key, max_retries=2, timeout=30)
try:
    client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}], max_tokens=20)
    raise AssertionError("a request was let through that nobody pays")
except openai.RateLimitError as e:
    h = e.response.headers
    assert e.code == "insufficient_quota" and e.type == "insufficient_quota", e.body
    assert "used up" in e.message or "left" in e.message, e.message
    assert h["x-should-retry"] == "false" and "retry-after" not in h and "retry-after-ms" not in h, dict(h)
assert not slept, f"the SDK tried again: it slept {slept}"
