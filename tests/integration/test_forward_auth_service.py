"""Forward authentication through a real gateway: over its own connections to a real service."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.conftest import Serve, Services
from tests.running import RunningGateway, Script, Served, Upstream, eventually


async def tell(upstream: Upstream, served: Served) -> None:
    """A service that answers with what it has been told."""
    body = (await served.body()).decode()
    user, role = served.field("x-user-id"), served.field("x-user-role")
    await served.ok(json.dumps({"user": user, "role": role, "body": body}).encode())


async def judge(upstream: Upstream, served: Served) -> None:
    """Lets in who has a cookie, which is the user's name."""
    (cookie,) = served.field("cookie") or [""]
    if cookie == "banned":
        await served.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    elif cookie:
        await served.ok(b"", b"X-User-ID: " + cookie.encode(), b"X-User-Role: user")
    else:
        head = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Cookie\r\nContent-Length: 0\r\n\r\n"
        await served.send(head)


async def serving(
    serve: Serve, services: Services, script: Script = judge, forward: str = "cache: 1h"
) -> tuple[RunningGateway, Upstream]:
    """A gateway, and the service that it asks."""
    service, auth = await services(tell, script)
    gateway = await serve(
        f"services: {{s: {{endpoints: ['{service.address}']}},"
        f" auth: {{endpoints: ['{auth.address}']}}}}\n"
        f"auth: {{forward: {{service: auth, path: /verify, {forward}}}}}\n"
        "routes:\n- {name: r, service: s, match: {path_prefix: /}, auth: required}\n"
        "- {name: o, service: s, match: {path_prefix: /o}, auth: optional}\n"
    )
    return gateway, auth


async def test_a_service_decides_who_gets_in(serve: Serve, services: Services) -> None:
    gateway, auth = await serving(serve, services)
    answer = await gateway.get("/a", "Cookie: alice", "X-User-ID: boss")
    assert (answer.status, answer.json["user"], answer.json["role"]) == (200, ["alice"], ["user"])
    assert auth.served[0].line == "GET /verify HTTP/1.1"
    assert auth.served[0].field("x-forwarded-uri") == ["/a"]
    assert auth.served[0].field("host") == [auth.address]
    refused = await gateway.get("/a")
    assert (refused.status, refused.headers["www-authenticate"]) == (401, "Cookie")
    assert (await gateway.get("/a", "Cookie: banned")).json["reason"] == "auth_refused"
    assert (await gateway.get("/o")).json["user"] == []
    assert (await gateway.get("/o", "Cookie: banned")).status == 403


async def test_an_answer_is_asked_for_once_over_one_connection(
    serve: Serve, services: Services
) -> None:
    gateway, auth = await serving(serve, services)
    for _ in range(5):
        assert (await gateway.get("/", "Cookie: alice")).status == 200
    assert (await gateway.get("/", "Cookie: bob")).json["user"] == ["bob"]
    assert (len(auth.served), auth.connections) == (2, 1)


async def test_a_body_waits_for_the_answer_and_arrives_whole(
    serve: Serve, services: Services
) -> None:
    let_go = asyncio.Event()

    async def slow(upstream: Upstream, served: Served) -> None:
        await let_go.wait()
        await judge(upstream, served)

    gateway, auth = await serving(serve, services, slow, "cache: 0s")
    body = "x" * 300_000
    async with gateway.connect() as client:
        head = f"PUT /u HTTP/1.1\r\nHost: h\r\nCookie: u\r\nContent-Length: {len(body)}\r\n\r\n"
        # The next request comes in the same breath, and waits for its turn.
        after = "GET /next HTTP/1.1\r\nHost: h\r\nCookie: v\r\n\r\n"
        sending = asyncio.create_task(client.send((head + body + after).encode()))
        await eventually(lambda: _asked(auth, 1))
        let_go.set()
        assert (await client.answer()).json == {"user": ["u"], "role": ["user"], "body": body}
        assert (await client.answer()).json["user"] == ["v"]
        await sending


async def _asked(auth: Upstream, times: int) -> bool:
    return len(auth.served) >= times


async def test_a_client_is_not_asked_for_its_body_before_it_may_send_it(
    serve: Serve, services: Services
) -> None:
    gateway, _ = await serving(serve, services)
    async with gateway.connect() as client:
        head = "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n"
        await client.send(f"{head}Cookie: alice\r\n\r\n".encode())
        assert (await client.head())[0] == 100
        await client.send(b"abc")
        assert (await client.answer()).json["body"] == "abc"
        await client.send(f"{head}Cookie: banned\r\n\r\n".encode())
        assert (await client.answer()).status == 403


@pytest.mark.parametrize("head", [b"HTTP/1.1 500 Oops\r\n", b"HTTP/1.1 302 Found\r\n", b"junk"])
async def test_a_service_that_fails_lets_nobody_in(
    serve: Serve, services: Services, head: bytes
) -> None:
    async def fail(upstream: Upstream, served: Served) -> None:
        await served.send(head + b"Content-Length: 0\r\n\r\n")

    gateway, _ = await serving(serve, services, fail)
    answer = await gateway.get("/", "Cookie: alice")
    assert (answer.status, answer.json["reason"]) == (503, "auth_unavailable")
    await gateway.line("the authorization service does not answer as it should")


async def test_a_service_that_does_not_answer_in_time_lets_nobody_in(
    serve: Serve, services: Services
) -> None:
    async def silent(upstream: Upstream, served: Served) -> None:
        await served.reader.read()

    gateway, _ = await serving(serve, services, silent, "timeout: 200ms")
    assert (await gateway.get("/", "Cookie: alice")).json["reason"] == "auth_unavailable"


async def test_a_service_that_comes_back_is_asked_again(serve: Serve, services: Services) -> None:
    gateway, auth = await serving(serve, services, judge, "cache: 0s")
    assert (await gateway.get("/", "Cookie: alice")).status == 200
    await auth.stop()
    assert (await gateway.get("/", "Cookie: alice")).status == 503
    await auth.start()
    assert (await gateway.get("/", "Cookie: alice")).status == 200


async def test_a_connection_that_died_in_the_pool_costs_nobody_a_refusal(
    serve: Serve, services: Services
) -> None:
    async def once(upstream: Upstream, served: Served) -> None:
        await judge(upstream, served)
        if len(upstream.served) % 2 == 0:  # the second one on a connection is never answered
            served.writer.transport.abort()

    gateway, _ = await serving(serve, services, once, "cache: 0s")
    statuses = [(await gateway.get("/", "Cookie: alice")).status for _ in range(10)]
    assert statuses == [200] * 10


async def test_a_client_that_leaves_while_it_is_asked_about_is_noticed(
    serve: Serve, services: Services
) -> None:
    let_go = asyncio.Event()

    async def slow(upstream: Upstream, served: Served) -> None:
        await let_go.wait()
        await judge(upstream, served)

    gateway, auth = await serving(serve, services, slow)
    async with gateway.connect() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: h\r\nCookie: a\r\nX-Request-ID: left\r\n\r\n")
        await eventually(lambda: _asked(auth, 1))
        client.writer.transport.abort()
    line = await gateway.access("left")  # while the service has not answered yet
    assert (line["status"], line["reason"]) == (499, "downstream_closed")
    await eventually(lambda: gateway.in_flight(0))
    let_go.set()
