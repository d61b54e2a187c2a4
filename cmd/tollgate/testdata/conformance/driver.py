"""What the Python SDKs make of each answer: `driver.py < cases > outcomes`.

A case and an outcome are a line of JSON each; see ../../conformance_test.go.
"""

import json
import sys
import time

import anthropic
import openai

HELLO = [{"role": "user", "content": "hi"}]

slept = []
really_sleep = time.sleep


def sleep(seconds):
    slept.append(seconds)
    if not case.get("sleepless"):
        really_sleep(seconds)


time.sleep = sleep


def ask(case):
    sdk = {"openai": openai, "anthropic": anthropic}[case["sdk"]]
    client = {"openai": openai.OpenAI, "anthropic": anthropic.Anthropic}[case["sdk"]](
        base_url=case["base"], api_key=case["key"], timeout=60, default_headers=case.get("headers") or {})
    options = {"extra_body": case.get("body") or {}}
    if case["do"] == "keyless":
        options["extra_headers"] = {"Authorization": sdk.Omit(), "X-Api-Key": sdk.Omit()}
    if case["do"] == "path":
        return client.get("/nothing-here", cast_to=object)
    messages = [{"role": "user", "content": "x" * case["size"]}] if case.get("size") else HELLO
    if case["sdk"] == "openai":
        return client.chat.completions.create(model=case["model"], messages=messages, max_tokens=case.get("max", 8), **options)
    return client.messages.create(model=case["model"], messages=messages, max_tokens=case.get("max", 8), **options)


def outcome(case):
    try:
        ask(case)
    except (openai.APIStatusError, anthropic.APIStatusError) as e:
        error = e.body.get("error", e.body) if isinstance(e.body, dict) else {}
        return {"class": type(e).__name__, "status": e.status_code, "code": error.get("code") or "", "type": error.get("type") or "",
                "message": error.get("message") or "", "requestId": e.request_id or "", "body": e.response.text}
    except Exception as e:  # whatever else a caller would see
        return {"class": type(e).__name__, "message": str(e)}
    return {"class": "none"}


for line in sys.stdin:
    case = json.loads(line)
    slept.clear()
    print(json.dumps({"name": case["name"], **outcome(case), "slept": slept}), flush=True)
