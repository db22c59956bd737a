"""What stands between a request and its service, through a real gateway: limits, addresses, sizes,
and what browsers are told."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from tests.conftest import Serve, Services
from tests.running import Answer, RunningGateway, Served, Upstream, eventually

APP = "https://app.example.com"


async def answer_ok(upstream: Upstream, served: Served) -> None:
    await served.body()
    await served.ok()


async def serving(serve: Serve, services: Services, policy: str, more: str = "") -> RunningGateway:
    """A gateway with one route, and its policy."""
    (upstream,) = await services(answer_ok)
    return await serve(
        f"services: {{s: {{endpoints: ['{upstream.address}']}}}}\n{more}\n"
        f"routes: [{{name: r, service: s, match: {{path_prefix: /}}, {policy}}}]\n"
    )


def reason_of(answer: Answer) -> str:
    return str(answer.json["reason"])


# How often


async def test_a_client_is_told_what_is_left_and_when_to_come_back(
    serve: Serve, services: Services
) -> None:
    gateway = await serving(serve, services, "rate_limit: {requests: 3, per: 1h}")
    answers = [await gateway.get("/") for _ in range(5)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
    assert {answer.headers["ratelimit-policy"] for answer in answers} == {'"1h";q=3;w=3600'}
    assert [answer.headers["ratelimit"] for answer in answers[:2]] == [
        '"1h";r=2;t=2400',
        '"1h";r=1;t=1200',
    ]
    refused = answers[3]
    assert reason_of(refused) == "rate_limited"
    assert 1190 <= int(refused.headers["retry-after"]) <= 1200
    assert re.fullmatch(r'"1h";r=0;t=1(200|19\d)', refused.headers["ratelimit"])


async def test_retry_after_is_true(serve: Serve, services: Services) -> None:
    gateway = await serving(serve, services, "rate_limit: {requests: 1, per: 1s}")
    assert (await gateway.get("/")).status == 200
    refused = await gateway.get("/")
    assert (refused.status, refused.headers["retry-after"]) == (429, "1")
    loop = asyncio.get_running_loop()
    came = loop.time()

    async def let_in() -> bool:
        return (await gateway.get("/")).status == 200

    await eventually(let_in)
    assert loop.time() - came < 1.5


async def test_several_limits_hold_together_and_are_told_together(
    serve: Serve, services: Services
) -> None:
    limits = "[{requests: 2, per: 1h, name: burst}, {requests: 100, per: 24h, name: daily}]"
    gateway = await serving(serve, services, f"rate_limit: {limits}")
    first, _, third = [await gateway.get("/") for _ in range(3)]
    assert first.headers["ratelimit-policy"] == '"burst";q=2;w=3600, "daily";q=100;w=86400'
    assert first.headers["ratelimit"].startswith('"burst";r=1;t=1800, "daily";r=99;t=')
    assert third.status == 429
    assert "daily" not in third.headers["ratelimit"]


async def test_a_costly_route_takes_more_of_the_limit(serve: Serve, services: Services) -> None:
    limit = "rate_limit: {requests: 10, per: 1h, cost: 5}"
    gateway = await serving(serve, services, limit)
    assert [(await gateway.get("/")).status for _ in range(3)] == [200, 200, 429]


async def test_each_value_of_a_field_has_a_limit_and_none_that_of_the_address(
    serve: Serve, services: Services
) -> None:
    limit = "rate_limit: {requests: 1, per: 1h, key: 'header:X-Tenant'}"
    gateway = await serving(serve, services, limit)
    fields = ["X-Tenant: a", "X-Tenant: b", "x-tenant: a", "X-Other: a", "X-Tenant:"]
    statuses = [(await gateway.get("/", field)).status for field in fields]
    assert statuses == [200, 200, 429, 200, 429]


async def test_a_reload_gives_nobody_a_fresh_limit(serve: Serve, services: Services) -> None:
    gateway = await serving(serve, services, "rate_limit: {requests: 2, per: 1h}")
    assert (await gateway.get("/")).status == 200
    assert (await gateway.reload())["message"] == "reloaded"
    assert [(await gateway.get("/")).status for _ in range(2)] == [200, 429]
    text = gateway.config_path.read_text().replace("requests: 2", "requests: 20")
    gateway.config_path.write_text(text)
    assert (await gateway.reload())["message"] == "reloaded"
    assert (await gateway.get("/")).status == 200


async def test_own_endpoints_are_never_limited(serve: Serve, services: Services) -> None:
    gateway = await serving(
        serve, services, "rate_limit: {requests: 1, per: 1h}, deny: [0.0.0.0/0]"
    )
    for _ in range(5):
        for path in ("/health", "/health/live", "/health/ready", "/metrics"):
            assert (await gateway.get(path)).status == 200


async def test_only_so_many_requests_of_one_client_are_under_way(
    serve: Serve, services: Services
) -> None:
    let_go = asyncio.Event()

    async def slow(upstream: Upstream, served: Served) -> None:
        await let_go.wait()
        await served.ok()

    (upstream,) = await services(slow)
    gateway = await serve(
        f"services: {{s: {{endpoints: ['{upstream.address}']}}}}\n"
        "routes: [{name: r, service: s, match: {path_prefix: /},"
        " concurrency: {requests: 2, key: 'header:x-tenant'}}]\n"
    )
    tenant = "X-Tenant: a"
    slow_ones = [asyncio.create_task(gateway.get("/", tenant)) for _ in range(2)]
    await eventually(lambda: gateway.in_flight(2))
    refused = await gateway.get("/", tenant)
    assert (refused.status, reason_of(refused)) == (429, "too_many_concurrent")
    assert refused.headers["retry-after"] == "1"
    gone = asyncio.create_task(gateway.get("/", "X-Tenant: b"))
    await eventually(lambda: gateway.in_flight(3))
    gone.cancel()  # who goes away gives its place back
    let_go.set()
    assert [(await one).status for one in slow_ones] == [200, 200]
    for who in (tenant, "X-Tenant: b"):
        assert [(await gateway.get("/", who)).status for _ in range(3)] == [200] * 3


# Who from where


@pytest.mark.parametrize(
    ("policy", "status"),
    [
        ("allow: [127.0.0.0/8]", 200),
        ("allow: [10.0.0.0/8]", 403),
        ("deny: [127.0.0.1]", 403),
        ("deny: [10.0.0.0/8]", 200),
        ("allow: [127.0.0.0/8], deny: [127.0.0.1]", 403),
    ],
)
async def test_addresses_are_let_in_or_not(
    serve: Serve, services: Services, policy: str, status: int
) -> None:
    answer = await (await serving(serve, services, policy)).get("/")
    assert answer.status == status
    if status == 403:
        assert reason_of(answer) == "address_denied"


async def test_a_trusted_proxy_says_whose_address_counts(serve: Serve, services: Services) -> None:
    policy, trusted = "deny: [203.0.113.0/24]", "trusted_proxies: [127.0.0.1]"
    gateway = await serving(serve, services, policy, trusted)
    assert (await gateway.get("/", "X-Forwarded-For: 203.0.113.9")).status == 403
    assert (await gateway.get("/", "X-Forwarded-For: 203.0.113.9, 198.51.100.1")).status == 200


# How large


async def test_a_route_may_take_less_than_the_others(serve: Serve, services: Services) -> None:
    gateway = await serving(serve, services, "limits: {body: 10, header_bytes: 200}")
    assert (await gateway.request("POST /", body=b"x" * 10)).status == 200
    refused = await gateway.request("POST /", body=b"x" * 11)
    assert (refused.status, reason_of(refused)) == (413, "body_too_large")
    refused = await gateway.get("/", f"X-Long: {'x' * 200}")
    assert (refused.status, reason_of(refused)) == (431, "headers_too_large")
    async with gateway.connect() as client:
        head = b"POST / HTTP/1.1\r\nHost: gateway.test\r\nTransfer-Encoding: chunked\r\n\r\n"
        await client.send(head + b"6\r\nxxxxxx\r\n6\r\nxxxxxx\r\n0\r\n\r\n")
        assert (await client.answer()).status == 413


async def test_a_route_may_take_more_than_the_others(serve: Serve, services: Services) -> None:
    (upstream,) = await services(answer_ok)
    gateway = await serve(
        f"limits: {{body: 1KiB}}\nservices: {{s: {{endpoints: ['{upstream.address}']}}}}\n"
        "routes:\n- {name: small, service: s, match: {path_prefix: /}}\n"
        "- {name: large, service: s, match: {path_prefix: /large}, limits: {body: 1MiB}}\n"
    )
    body = b"x" * 100_000
    assert (await gateway.request("PUT /large", body=body)).status == 200
    assert (await gateway.request("PUT /small", body=body)).status == 413
    assert (await gateway.request("POST /api/v1/jobs", body=body)).status == 413


async def test_a_body_is_not_asked_for_before_the_request_may_pass(
    serve: Serve, services: Services
) -> None:
    gateway = await serving(serve, services, "deny: [127.0.0.1]")
    async with gateway.connect() as client:
        head = b"POST / HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 5\r\n"
        await client.send(head + b"Expect: 100-continue\r\n\r\n")
        assert (await client.answer()).status == 403


# What browsers are told

CORS = f"cors: {{origins: ['{APP}'], methods: [PUT], headers: [X-A], credentials: true}}"


async def test_a_preflight_is_answered_for_the_method_that_will_follow(
    serve: Serve, services: Services
) -> None:
    match = "match: {path_prefix: /, methods: [PUT], headers: {x-a: '1'}}"
    (upstream,) = await services(answer_ok)
    gateway = await serve(
        f"services: {{s: {{endpoints: ['{upstream.address}']}}}}\n"
        f"routes: [{{name: r, service: s, {match}, {CORS}, auth: required}}]\n"
        f"auth: {{jwt: {{secret: {'k3Y9' * 3 + 'vQx7ZpL0sD2fG5hJ8nMbT4w'}}}}}\n"
    )
    asked = ("Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: x-a")
    answer = await gateway.request("OPTIONS /", f"Origin: {APP}", *asked)
    assert answer.status == 204
    assert answer.headers["access-control-allow-origin"] == APP
    assert answer.headers["access-control-allow-methods"] == "PUT"
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert answer.headers["access-control-max-age"] == "600"
    assert answer.headers["x-request-id"]
    refused = await gateway.request("OPTIONS /", "Origin: https://evil.test", *asked)
    assert (refused.status, reason_of(refused)) == (403, "origin_denied")
    assert "access-control-allow-origin" not in refused.headers
    assert upstream.served == []


async def test_errors_can_be_read_by_pages_too(serve: Serve, services: Services) -> None:
    gateway = await serving(serve, services, f"{CORS}, rate_limit: {{requests: 1, per: 1h}}")
    for status in (200, 429):
        answer = await gateway.get("/", f"Origin: {APP}")
        assert answer.status == status
        assert answer.headers["access-control-allow-origin"] == APP
        assert answer.headers["vary"] == "Origin"
    answer = await gateway.get("/", "Origin: https://evil.test")
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers["vary"] == "Origin"


async def test_a_service_cannot_allow_more_than_the_route(serve: Serve, services: Services) -> None:
    async def generous(upstream: Upstream, served: Served) -> None:
        await served.ok(b"ok", b"Access-Control-Allow-Origin: *", b"Vary: Accept")

    (upstream,) = await services(generous)
    gateway = await serve(
        f"services: {{s: {{endpoints: ['{upstream.address}']}}}}\ncors: {{origins: ['{APP}']}}\n"
        "routes: [{name: r, service: s, match: {path_prefix: /}}]\n"
    )
    answer = await gateway.get("/", "Origin: https://evil.test")
    assert "access-control-allow-origin" not in answer.headers
    answer = await gateway.get("/", f"Origin: {APP}")
    assert answer.headers["access-control-allow-origin"] == APP
    assert answer.headers["vary"] == "Accept, Origin"
    jobs = await gateway.get("/api/v1/jobs", f"Origin: {APP}")
    assert jobs.headers["access-control-allow-origin"] == APP


async def test_without_cors_nothing_is_said_and_options_reach_the_service(
    serve: Serve, services: Services
) -> None:
    gateway = await serving(serve, services, "deny: []")
    preflight = (f"Origin: {APP}", "Access-Control-Request-Method: PUT")
    answer = await gateway.request("OPTIONS /", *preflight)
    assert (answer.status, answer.body) == (200, b"ok")
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_security_headers_are_added_where_the_service_has_none(
    serve: Serve, services: Services
) -> None:
    async def framed(upstream: Upstream, served: Served) -> None:
        await served.ok(b"ok", b"X-Frame-Options: SAMEORIGIN")

    (upstream,) = await services(framed)
    gateway = await serve(
        f"trusted_proxies: [127.0.0.1]\nservices: {{s: {{endpoints: ['{upstream.address}']}}}}\n"
        "routes:\n"
        "- {name: r, service: s, match: {path_prefix: /}, security_headers: true}\n"
        "- {name: d, match: {path: /d}, direct_response: {status: 200, body: d},"
        " deny: [10.0.0.1], security_headers: {enabled: true, referrer_policy: ''}}\n"
    )
    answer = await gateway.get("/")
    assert answer.headers["x-frame-options"] == "SAMEORIGIN"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "strict-transport-security" not in answer.headers
    answer = await gateway.get("/", "X-Forwarded-Proto: https")
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    refused = await gateway.get("/d", "X-Forwarded-For: 10.0.0.1")
    assert refused.status == 403
    for one in (refused, await gateway.get("/d")):
        assert one.headers["x-frame-options"] == "DENY"
        assert "referrer-policy" not in one.headers


# Operators


async def test_routes_tell_their_policies_and_no_secret(
    serve: Serve, services: Services, tmp_path: Path
) -> None:
    secret = "q7Zr8vN1xYw5tBf7mLd0pHs9uCg2aEj4oRi6nTzXyV"
    policy = "auth: required, roles: [admin], rate_limit: {requests: 5, per: 1m, key: user}"
    more = f"auth: {{jwt: {{secret: {secret}}}}}\nadmin: {{port: '127.0.0.1:0'}}"
    gateway = await serving(serve, services, policy, more)
    admin = RunningGateway(tmp_path, "")
    admin.port = int((await gateway.line("admin listener"))["port"])
    rows = (await admin.get("/routes")).json
    (row,) = [row for row in rows if row["name"] == "r"]
    assert row["policy"] == "auth required; roles admin; 5 per 1m by user"
    (endpoint,) = (await admin.get("/endpoints")).json["s"]
    assert endpoint["healthy"] is True
    assert (await admin.get("/health")).status == 200
    assert b"siger_http_requests_total" in (await admin.get("/metrics")).body
    assert (await admin.get("/nothing")).status == 404
    assert (await gateway.get("/routes")).status == 401  # on the public port it is a route's
    for page in ("/", "/routes", "/endpoints", "/metrics"):
        assert secret.encode() not in (await admin.get(page)).body


async def test_two_gateways_on_one_machine_need_two_admin_ports_and_serve_without(
    serve: Serve, services: Services
) -> None:
    first = await serving(serve, services, "deny: []", "admin: {port: '127.0.0.1:0'}")
    port = (await first.line("admin listener"))["port"]
    second = await serving(serve, services, "deny: []", f"admin: {{port: '127.0.0.1:{port}'}}")
    await second.line("no admin listener")
    assert (await second.get("/")).status == 200
