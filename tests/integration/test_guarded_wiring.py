"""Filters in a real gateway: while others are asked, over reloads and drains, in a browser's
preflights, and on the two listeners."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time

import pytest

from tests.conftest import Serve, Services
from tests.running import BOUND, RunningGateway, Served, Upstream, answer_ok, eventually
from tests.spoofing import ADMIN, ALICE, SECRET, left
from tests.tokens import P256, document, jwk, token

DAY = 86400


def base(upstream: Upstream, routes: str, rest: str = "") -> str:
    return (
        f'consul_address: ""\nnats_address: ""\n{rest}'
        f'services: {{s: {{endpoints: ["{upstream.address}"]}}}}\nroutes:\n{routes}'
    )


# While somebody is asked: the keys of an issuer that is slow to answer.


class Issuer:
    """Publishes its keys when it is allowed to."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()

    async def __call__(self, upstream: Upstream, served: Served) -> None:
        await self.may_answer.wait()
        await served.ok(document(jwk(P256, "k")), b"Content-Type: application/json")


def signed() -> str:
    claims = {"user_id": "u-1", "exp": time.time() + 60}
    return f"Authorization: Bearer {token(claims, P256, 'ES256', kid='k').decode()}"


def asking(issuer: Upstream, upstream: Upstream, rest: str = "", name: str = "r") -> str:
    route = f"- {{name: {name}, match: {{path_prefix: /}}, service: s, auth: required}}\n"
    auth = f'auth: {{jwt: {{jwks_url: "http://{issuer.address}/keys"}}}}\nadmin: {{port: ""}}\n'
    return base(upstream, route, auth + rest)


def head(line: str, *fields: str) -> bytes:
    return "\r\n".join([f"{line} HTTP/1.1", "Host: a", *fields, "", ""]).encode()


async def held(
    serve: Serve, services: Services, rest: str = ""
) -> tuple[RunningGateway, Issuer, Upstream, Upstream]:
    """A gateway whose issuer has been asked, and is silent."""
    script = Issuer()
    issuer, upstream = await services(script, answer_ok)
    gateway = await serve(asking(issuer, upstream, rest))
    await eventually(lambda: _asked(issuer))
    return gateway, script, issuer, upstream


async def _asked(issuer: Upstream) -> bool:
    return bool(issuer.served)


@pytest.mark.parametrize("change", ["none", "another route", "another issuer"])
async def test_requests_that_wait_for_keys_are_answered_in_order_over_a_reload(
    serve: Serve, services: Services, change: str
) -> None:
    gateway, script, issuer, upstream = await held(serve, services)
    async with gateway.connect() as client:
        await client.send(head("POST /1", signed(), "Content-Length: 5") + b"hello")
        await client.send(head("POST /2", signed(), "Transfer-Encoding: chunked"))
        await client.send(b"5\r\nworld\r\n0\r\n\r\n" + head("GET /health") + head("GET /3"))
        await eventually(lambda: gateway.in_flight(1))
        if change == "another route":
            gateway.write_config(asking(issuer, upstream, name="other"))
            assert (await gateway.reload())["message"] == "reloaded"
        elif change == "another issuer":
            gateway.write_config(asking(issuer, upstream).replace("/keys", "/others"))
            assert (await gateway.reload())["message"] == "reloaded"
        script.may_answer.set()
        statuses = [(await client.answer()).status for _ in range(4)]
    if change == "another issuer":  # nobody fetches the old one's keys any more: fails closed
        assert statuses[0] in (200, 401, 503)
        assert statuses[2:] == [200, 401]
    else:
        assert statuses == [200, 200, 200, 401]
        assert [served.line.split()[1] for served in upstream.served] == ["/1", "/2"]
    await eventually(lambda: gateway.in_flight(0))


@pytest.mark.parametrize("reset", [False, True], ids=["closes", "resets"])
async def test_a_client_that_goes_while_keys_are_fetched_leaves_nothing(
    serve: Serve, services: Services, reset: bool
) -> None:
    gateway, script, _, _ = await held(serve, services)
    for _ in range(20):
        async with gateway.connect() as client:
            await client.send(head("GET /gone", signed()))
            if reset:
                client.writer.transport.abort()
    async with gateway.connect() as client:
        await client.send(head("GET /stays", signed()))
        script.may_answer.set()
        assert (await client.answer()).status == 200
    await eventually(lambda: gateway.in_flight(0))
    await eventually(lambda: _connections(gateway, 1))
    assert not any("exception" in line for line in gateway.lines)


async def _connections(gateway: RunningGateway, count: int) -> bool:
    return await gateway.metric("siger_downstream_connections") == count


@pytest.mark.parametrize("answers", [True, False])
async def test_a_drain_waits_for_a_request_that_waits_for_keys_and_no_longer(
    serve: Serve, services: Services, answers: bool
) -> None:
    rest = "" if answers else "drain_timeout: 0.3s\n"
    gateway, script, _, _ = await held(serve, services, rest)
    async with gateway.connect() as client:
        await client.send(head("GET /x", signed(), "X-Request-ID: held"))
        await eventually(lambda: gateway.in_flight(1))
        gateway.send(signal.SIGTERM)
        await gateway.line("draining")
        if answers:
            script.may_answer.set()
            answer = await client.answer()
            assert (answer.status, answer.headers["connection"]) == (200, "close")
        else:
            with contextlib.suppress(ConnectionError):
                assert await client.reader.read() == b""
        assert await gateway.wait() == 0
    if not answers:
        assert (await gateway.access("held"))["reason"] == "downstream_closed"


# Limits.


async def test_limits_of_a_route_and_of_own_handlers_of_that_name_are_two(
    serve: Serve, services: Services
) -> None:
    (upstream,) = await services(answer_ok)
    route = f"rate_limit: {{requests: 5, per: {DAY}s}}, concurrency: {{requests: 1}}"
    own = f"jobs: {{rate_limit: {{requests: 500, per: {DAY}s}}, concurrency: {{requests: 9}}}}\n"
    routes = f"- {{name: jobs, match: {{path_prefix: /j}}, service: s, {route}}}\n"
    config = base(upstream, routes, own)
    gateway = await serve(config)
    for lost in range(1, 4):
        assert left(await gateway.get("/j")) == 5 - lost
        assert left(await gateway.get("/api/v1/jobs")) == 500 - lost
        gateway.write_config(config)
        assert (await gateway.reload())["message"] == "reloaded"


async def test_what_is_used_up_of_a_limit_stays_used_up_over_a_reload(
    serve: Serve, services: Services
) -> None:
    (upstream,) = await services(answer_ok)

    def config(limit: str, more: str = "") -> str:
        route = f"- {{name: r, match: {{path_prefix: /r}}, service: s, {limit}}}\n"
        return base(upstream, route + more)

    gateway = await serve(config(f"rate_limit: {{requests: 10, per: {DAY}s}}"))
    for expected in (9, 8, 7):
        assert left(await gateway.get("/r")) == expected
    other = "- {name: o, match: {path_prefix: /o}, service: s}\n"
    for limit, more, expected in (
        (f"rate_limit: {{requests: 10, per: {DAY}s}}", "", 6),
        (f"rate_limit: {{requests: 10, per: {DAY}s}}", other, 5),
        (f"rate_limit: {{requests: 10, per: {DAY}s, key: 'header:x-a'}}", other, 4),
    ):
        gateway.write_config(config(limit, more))
        assert (await gateway.reload())["message"] == "reloaded"
        assert left(await gateway.get("/r")) == expected


# Bodies.


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_has_the_limit_of_its_route(
    serve: Serve, services: Services, chunked: bool
) -> None:
    (upstream,) = await services(answer_ok)
    routes = (
        "- {name: small, match: {path_prefix: /small}, service: s, limits: {body: 10}}\n"
        "- {name: large, match: {path_prefix: /large}, service: s, limits: {body: 1000}}\n"
        "- {name: rest, match: {path_prefix: /}, service: s}\n"
    )
    gateway = await serve(base(upstream, routes, "limits: {body: 100}\n"))
    for path, limit in (("/small", 10), ("/large", 1000), ("/", 100), ("/api/v1/jobs", 100)):
        for size in (limit, limit + 1):
            async with gateway.connect() as client:
                await client.send(body_of(path, size, chunked))
                answer = await client.answer()
            assert (answer.status == 413) is (size > limit), (path, size)


def body_of(path: str, size: int, chunked: bool) -> bytes:
    if chunked:
        return head(f"POST {path}", "Transfer-Encoding: chunked") + (
            b"1\r\nx\r\n%x\r\n%b\r\n0\r\n\r\n" % (size - 1, b"x" * (size - 1))
        )
    return head(f"POST {path}", f"Content-Length: {size}") + b"x" * size


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_connection_learns_of_other_limits_for_bodies(
    serve: Serve, services: Services, chunked: bool
) -> None:
    (upstream,) = await services(answer_ok)

    def config(body: str) -> str:
        route = f"- {{name: r, match: {{path_prefix: /r}}, service: s, limits: {{body: {body}}}}}\n"
        rest = "- {name: rest, match: {path_prefix: /}, service: s}\n"
        return base(upstream, route + rest, "limits: {body: 100}\n")

    gateway = await serve(config("100"))
    async with gateway.connect() as before, gateway.connect() as later:
        assert (await before.request("GET /")).status == 200
        gateway.write_config(config("1000"))
        await gateway.reload()
        await before.send(body_of("/r", 1000, chunked))
        assert (await before.answer()).status == 200
        await before.send(body_of("/r", 1001, chunked))
        assert (await before.answer()).status == 413
        assert (await later.request("GET /")).status == 200
        gateway.write_config(config("0"))
        await gateway.reload()
        await later.send(body_of("/", 101, chunked))
        assert (await later.answer()).status == 413


# Browsers.

CORS = "cors: {origins: [https://app.test], methods: [GET, PUT], credentials: true}"
ORIGIN = "Origin: https://app.test"
FOREIGN = "Origin: https://evil.test"
ANNOUNCES = "Access-Control-Request-Method: PUT"


async def vary(upstream: Upstream, served: Served) -> None:
    await served.body()
    await served.ok(b"ok", b"Vary: Accept-Encoding", b"Access-Control-Allow-Origin: *")


async def browsers(serve: Serve, services: Services) -> tuple[RunningGateway, Upstream]:
    (upstream,) = await services(vary)
    matches = {
        "write": 'match: {path_prefix: /a, methods: [PUT], headers: {x-in: "1"}}',
        "read": "match: {path_prefix: /a}, auth: required",
        "limited": "match: {path_prefix: /l}, rate_limit: {requests: 1, per: 1h}",
        "hidden": "match: {path_prefix: /h}, deny: [127.0.0.1]",
    }
    routes = "- {name: plain, match: {path_prefix: /p}, service: s, auth: required}\n"
    for name, rest in matches.items():
        routes += f"- {{name: {name}, service: s, {rest}, {CORS}}}\n"
    auth = f"auth: {{jwt: {{secret: {SECRET}}}}}\n"
    return await serve(base(upstream, routes, auth)), upstream


async def test_preflights_are_answered_and_nothing_else_takes_their_way(
    serve: Serve, services: Services
) -> None:
    gateway, upstream = await browsers(serve, services)
    allowed = await gateway.request("OPTIONS /a", ORIGIN, ANNOUNCES)
    assert allowed.status == 204
    assert allowed.headers["access-control-allow-origin"] == "https://app.test"
    for line, fields, status in (
        ("OPTIONS /a", (FOREIGN, ANNOUNCES), 403),
        ("OPTIONS /a", (ORIGIN, FOREIGN, ANNOUNCES), 403),
        ("OPTIONS /a", (ANNOUNCES,), 401),  # no preflight: it is the route's of OPTIONS
        ("OPTIONS /a", (ORIGIN,), 401),
        ("OPTIONS /p", (ORIGIN, ANNOUNCES), 401),
        ("OPTIONS /h", (ORIGIN, ANNOUNCES), 403),
        ("GET /a", (ORIGIN, ANNOUNCES), 401),
        ("PUT /a", (ORIGIN, "X-In: 1", "X-In: 0"), 400),
    ):
        answer = await gateway.request(line, *fields)
        assert answer.status == status, (line, fields)
    assert not upstream.served


async def test_pages_can_read_errors_and_caches_keep_origins_apart(
    serve: Serve, services: Services
) -> None:
    gateway, _ = await browsers(serve, services)
    for path, fields, status in (
        ("/a", (ALICE,), 200),
        ("/a", (), 401),
        ("/l", (), 200),
        ("/l", (), 429),
    ):
        answer = await gateway.get(path, ORIGIN, *fields)
        assert answer.status == status
        assert answer.headers["access-control-allow-origin"] == "https://app.test"
        varies = {one.strip().lower() for one in answer.headers["vary"].split(",")}
        assert varies == ({"accept-encoding", "origin"} if status == 200 else {"origin"})
        for others in ((FOREIGN,), (), (ORIGIN, FOREIGN), ("Origin: null",)):
            answer = await gateway.get(path, *others, *fields)
            assert "access-control-allow-origin" not in answer.headers
            assert "origin" in answer.headers["vary"].lower()


# Defaults, and the listener for operators.


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


async def test_the_default_holds_for_whatever_does_not_say_otherwise(
    serve: Serve, services: Services
) -> None:
    (upstream,) = await services(answer_ok)
    port = free_port()
    routes = (
        "- {name: r, match: {path_prefix: /r}, service: s}\n"
        "- {name: open, match: {path_prefix: /open}, service: s, auth: none}\n"
    )
    rest = (
        f"auth: {{default: required, jwt: {{secret: {SECRET}}}}}\n"
        f'expose_services: ["*"]\nadmin: {{port: "127.0.0.1:{port}", roles: [admin]}}\n'
    )
    gateway = await serve(base(upstream, routes, rest))
    for path in ("/r", "/services/s/x", "/services/s", "/api/v1/jobs", "//services//s"):
        assert (await gateway.get(path)).status == 401
    for path in ("/open", "/health", "/metrics", "/openapi.json"):
        assert (await gateway.get(path)).status == 200
    assert (await gateway.get("/services/s/x", ALICE)).status == 200
    for path in ("/routes", "/endpoints"):
        assert (await gateway.get(path, ADMIN)).status == 404
    public, gateway.port = gateway.port, port
    for path in ("/", "/routes", "/endpoints", "/health", "/metrics", "//routes", "/x"):
        assert (await gateway.get(path)).status == 401
        assert (await gateway.get(path, ALICE, "X-User-Role: admin")).status == 403
    for path in ("/routes", "/endpoints", "/metrics"):
        answer = await gateway.get(path, ADMIN)
        assert answer.status == 200
        assert SECRET.encode() not in answer.body
    for path in ("/r", "/api/v1/jobs", "/services/s"):
        assert (await gateway.get(path, ADMIN)).status == 404
    gateway.port = public
    assert [served.line.split()[1] for served in upstream.served] == ["/open", "/x"]


async def test_the_admin_listener_follows_a_reload_and_ends_with_the_gateway(
    serve: Serve, services: Services
) -> None:
    (upstream,) = await services(answer_ok)
    port = free_port()

    def config(policy: str) -> str:
        auth = f"auth: {{jwt: {{secret: {SECRET}}}}}\n"
        route = "- {name: r, match: {path_prefix: /r}, service: s}\n"
        admin = f'admin: {{port: "127.0.0.1:{port}", {policy}}}\n'
        return base(upstream, route, auth + admin)

    gateway = await serve(config("auth: none"))
    public, gateway.port = gateway.port, port
    assert (await gateway.get("/routes")).status == 200
    async with gateway.connect() as client:
        assert (await client.request("GET /routes")).status == 200
        gateway.port = public
        gateway.write_config(config("auth: required"))
        await gateway.reload()
        assert (await client.request("GET /routes")).status == 401
        gateway.write_config(config("deny: [127.0.0.1]"))
        await gateway.reload()
        assert (await client.request("GET /routes", ADMIN)).status == 403
        gateway.send(signal.SIGTERM)
        async with asyncio.timeout(BOUND):
            assert await gateway.wait() == 0
        assert await client.at_eof()
