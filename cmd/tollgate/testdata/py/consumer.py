"""An outside NATS client with the credential of `tollgate consumer create`.

Usage: consumer.py CREDENTIAL_JSON EVENTS OTHER_DURABLE

Fetches and acknowledges EVENTS events of its durable consumer and prints each on
a line; then tries what it must not be able to do. OTHER_DURABLE is the durable
consumer of somebody else.
"""

import asyncio
import json
import sys

import nats
from nats.errors import NoRespondersError, TimeoutError

credential, wanted, other = json.loads(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
stream = credential["stream"]


async def connect(**user):
    async def on_error(_):
        """A denied subscription or publication; what counts is what comes of it."""

    return await nats.connect(credential["url"], error_cb=on_error, allow_reconnect=False, connect_timeout=5, **user)


async def read(nc):
    subscription = await nc.jetstream().pull_subscribe_bind(durable=credential["durable"], stream=stream)
    got = 0
    while got < wanted:
        for msg in await subscription.fetch(wanted - got, timeout=10):
            got += 1
            assert msg.headers["Content-Type"] == "application/cloudevents+json", msg.headers
            assert msg.headers["Nats-Msg-Id"], msg.headers
            assert msg.subject.startswith("tollgate.usage.v1."), msg.subject
            print(json.dumps({"subject": msg.subject, "event": json.loads(msg.data)}), flush=True)
            await msg.ack()


async def no_answer(nc, subject, payload=b"{}"):
    """Nobody may answer a request on subject with more than a refusal."""
    try:
        answer = await nc.request(subject, payload, timeout=0.5)
    except (TimeoutError, NoRespondersError):
        return
    assert json.loads(answer.data).get("error"), f"{subject} answered {answer.data!r}"


async def main():
    user, password = credential["user"], credential["password"]
    nc = await connect(user=user, password=password)
    await read(nc)

    for subject, payload in (
        ("$JS.API.INFO", b""),
        ("$JS.API.STREAM.NAMES", b""),
        (f"$JS.API.STREAM.INFO.{stream}", b""),
        (f"$JS.API.STREAM.PURGE.{stream}", b""),
        (f"$JS.API.STREAM.DELETE.{stream}", b""),
        (f"$JS.API.STREAM.MSG.GET.{stream}", b'{"seq":1}'),
        ("$JS.API.STREAM.INFO.KV_TOLLGATE_KEYS", b""),
        ("$JS.API.STREAM.MSG.GET.KV_TOLLGATE_KEYS", b'{"seq":1}'),
        ("$JS.API.DIRECT.GET.KV_TOLLGATE_KEYS", b'{"seq":1}'),
        ("$JS.API.CONSUMER.CREATE.KV_TOLLGATE_KEYS", b'{"stream_name":"KV_TOLLGATE_KEYS","config":{}}'),
        (f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{other}", b"1"),
        ("tollgate.usage.v1.demo.forged.model", b'{"forged":true}'),
        ("$KV.TOLLGATE_KEYS.k.demo.forged", b"{}"),
        ("$SYS.REQ.SERVER.PING", b""),
    ):
        await no_answer(nc, subject, payload)

    # No subscription may hear anything of what others do; requests go on meanwhile.
    heard = []

    async def hear(msg):
        heard.append(msg.subject)

    for subject in (">", "$KV.>", "$JS.>", "tollgate.>", "_INBOX.>", "_R_.>", "$SYS.>"):
        await nc.subscribe(subject, cb=hear)
    await asyncio.sleep(1)
    assert not heard, heard
    await nc.close()

    for wrong in ({"user": user, "password": password + "x"}, {}):
        try:
            nc = await connect(**wrong)
        except Exception as e:
            assert "uthorization" in str(e) or "uthorization" in repr(e), repr(e)
            continue
        await nc.close()
        raise AssertionError(f"{sorted(wrong)} was let in")


asyncio.run(main())
