"""Reads bodies as servers in Python do: a line of JSON for each, in and out."""

import base64
import json
import sys
from email import message_from_bytes, policy
from urllib.parse import parse_qs


def values(kind, content_type, body, field):
    if kind == "json":
        document = json.loads(body)
        return [document[field]] if field in document else []
    if kind == "form":
        return parse_qs(body.decode(), keep_blank_values=True, encoding="utf-8", errors="strict").get(field, [])
    message = message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body, policy=policy.HTTP)
    if not message.is_multipart():
        raise ValueError("not multipart")
    found = []
    for part in message.iter_parts():
        disposition = part["content-disposition"]
        if disposition is not None and disposition.params.get("name") == field:
            found.append((part.get_payload(decode=True) or b"").decode())
    return found


for line in sys.stdin:
    q = json.loads(line)
    try:
        answer = {"values": values(q["kind"], q["type"], base64.b64decode(q["body"]), q["field"])}
    except Exception as e:  # whatever it is, a server would refuse the request
        answer = {"error": f"{type(e).__name__}: {e}"}
    print(json.dumps(answer), flush=True)
