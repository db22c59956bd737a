"""The proxied path through a real gateway process: each test is a behaviour that users want."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from tests.conftest import Serve, Services
from tests.running import BOUND, RunningGateway, Served, Upstream, answer_ok, eventually


def one_service(*upstreams: Upstream, route: str = "", service: str = "", rest: str = "") -> str:
    addresses = ", ".join(f'"{upstream.address}"' for upstream in upstreams)
    return (
        'consul_address: ""\nnats_address: ""\n'
        f"services: {{s: {{endpoints: [{addresses}] {service}}}}}\n"
        f"routes: [{{name: r, match: {{path_prefix: /}}, service: s {route}}}]\n{rest}"
    )


@pytest.fixture
async def echo(serve: Serve, services: Services) -> tuple[RunningGateway, Upstream]:
    (upstream,) = await services(answer_ok)
    return await serve(one_service(upstream)), upstream


@pytest.mark.parametrize(
    "target",
    [
        "/models/model.tar.gz",
        "/providers",
        "/a%2Fb/c%20d?x=%41&y=1+2&z",
        "/objects/bucket//key",
        "/a;b=c/d,e:@!$&'()*+=~",
        "/?",
        "/%c3%a4?q=%F0%9F%98%80",
    ],
)
async def test_path_and_query_arrive_as_the_client_sent_them(
    echo: tuple[RunningGateway, Upstream], target: str
) -> None:
    gateway, upstream = echo
    assert (await gateway.get(target)).status == 200
    assert upstream.served[-1].line == f"GET {target} HTTP/1.1"


@pytest.mark.parametrize(
    "target", ["/../x", "/a/..", "/a/./b", "/%2e%2e/x", "/a/%2E./b", "/a/..;x/b", "/%zz", "/%00"]
)
async def test_a_path_that_climbs_or_is_badly_encoded_is_refused(
    echo: tuple[RunningGateway, Upstream], target: str
) -> None:
    gateway, upstream = echo
    answer = await gateway.get(target)
    assert (answer.status, answer.json["reason"]) == (400, "bad_path")
    assert not upstream.served


async def test_a_stripped_prefix_is_taken_off_once(serve: Serve, services: Services) -> None:
    (upstream,) = await services(answer_ok)
    gateway = await serve(
        'consul_address: ""\nnats_address: ""\n'
        f'services: {{s: {{endpoints: ["{upstream.address}"]}}}}\n'
        "routes: [{name: r, match: {path_prefix: /api/v1/providers}, service: s,"
        " strip_prefix: /api/v1}]\n"
    )
    for target, seen in (
        ("/api/v1/providers", "/providers"),
        ("/api/v1/providers/7/heartbeat?x=1", "/providers/7/heartbeat?x=1"),
        ("/api/v1/%70roviders/7", "/%70roviders/7"),
        ("/%61pi/v1/providers/7?x=1", "/providers/7?x=1"),
    ):
        await gateway.get(target)
        assert upstream.served[-1].line == f"GET {seen} HTTP/1.1"
    assert (await gateway.get("/api/v1/providersx")).status == 404


async def test_what_a_client_claims_about_itself_does_not_reach_the_service(
    echo: tuple[RunningGateway, Upstream],
) -> None:
    gateway, upstream = echo
    await gateway.get(
        "/",
        "X-Forwarded-For: 6.6.6.6",
        "X-Forwarded-Host: evil",
        "Forwarded: for=6.6.6.6",
        "X-Real-IP: 6.6.6.6",
        "X-User-ID: root",
        "X-User-Role: admin",
        "X-Secret: 1",
        "Connection: x-secret, host, content-length",
        "TE: gzip",
        "Keep-Alive: 5",
        "Proxy-Connection: keep-alive",
    )
    served = upstream.served[-1]
    assert served.field("x-forwarded-for") == ["127.0.0.1"]
    assert served.field("x-forwarded-host") == ["gateway.test"]
    assert served.field("x-forwarded-proto") == ["http"]
    assert served.field("host") == ["gateway.test"]
    assert served.field("forwarded") == ["for=127.0.0.1;proto=http;host=gateway.test"]
    gone = {"x-real-ip", "x-user-id", "x-user-role", "x-secret", "te", "keep-alive"}
    assert not gone & {name for name, _ in served.fields}
    assert served.field("via") == ["1.1 siger"]
    assert len(served.field("traceparent")) == 1


async def test_a_trusted_proxy_is_believed_about_the_client(
    serve: Serve, services: Services
) -> None:
    (upstream,) = await services(answer_ok)
    gateway = await serve(one_service(upstream, rest='trusted_proxies: ["127.0.0.0/8"]\n'))
    answer = await gateway.get("/", "X-Forwarded-For: 6.6.6.6, 9.9.9.9", "X-Forwarded-Proto: https")
    assert upstream.served[-1].field("x-forwarded-for") == ["6.6.6.6, 9.9.9.9, 127.0.0.1"]
    assert upstream.served[-1].field("x-forwarded-proto") == ["https"]
    assert (await gateway.access(answer.headers["x-request-id"]))["client"] == "9.9.9.9"


@pytest.mark.parametrize(
    ("given", "kept"), [("abc-123", True), ("", False), ("a b", False), ("x" * 200, False)]
)
async def test_a_sane_request_id_is_kept_and_any_other_replaced(
    echo: tuple[RunningGateway, Upstream], given: str, kept: bool
) -> None:
    gateway, upstream = echo
    answer = await gateway.get("/", f"X-Request-ID: {given}")
    assert (answer.headers["x-request-id"] == given) is kept
    assert upstream.served[-1].field("x-request-id") == [answer.headers["x-request-id"]]


async def test_hop_by_hop_fields_of_the_response_end_at_the_gateway(
    serve: Serve, services: Services
) -> None:
    async def script(upstream: Upstream, served: Served) -> None:
        await served.ok(
            b"x", b"Connection: x-inner", b"X-Inner: 1", b"Keep-Alive: 9", b"X-Outer: 2"
        )

    gateway = await serve(one_service(*await services(script)))
    answer = await gateway.get("/")
    assert answer.headers["x-outer"] == "2"
    assert not {"x-inner", "keep-alive", "connection"} & answer.headers.keys()


async def test_bodies_arrive_whole_both_ways_in_either_framing(
    serve: Serve, services: Services
) -> None:
    async def script(upstream: Upstream, served: Served) -> None:
        body = await served.body()
        await served.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for start in range(0, len(body), 5000):
            piece = body[start : start + 5000]
            await served.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        await served.send(b"0\r\nX-Trailer: t\r\n\r\n")

    gateway = await serve(one_service(*await services(script)))
    body = random.randbytes(300_000)
    async with gateway.connect() as client:
        assert (await client.request("POST /", body=body)).body == body
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        for start in range(0, len(body), 7000):
            piece = body[start : start + 7000]
            await client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        await client.send(b"0\r\n\r\n")
        answer = await client.answer()
        assert (answer.body, answer.headers["transfer-encoding"]) == (body, "chunked")


async def test_response_trailers_are_passed_on_but_cannot_change_the_head(
    serve: Serve, services: Services
) -> None:
    async def script(upstream: Upstream, served: Served) -> None:
        await served.send(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"0\r\nX-Digest: d\r\nVia: 1.1 evil\r\nSet-Cookie: c\r\n\r\n"
        )

    gateway = await serve(one_service(*await services(script)))
    async with gateway.connect() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.head()
        async with asyncio.timeout(BOUND):
            assert await client.reader.readuntil(b"\r\n\r\n") == b"0\r\nx-digest: d\r\n\r\n"


async def test_a_refusal_that_does_not_await_the_body_says_that_it_closes(
    echo: tuple[RunningGateway, Upstream],
) -> None:
    gateway, _ = echo
    async with gateway.connect() as client:
        await client.send(b"POST /../x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (400, "close")
        assert await client.at_eof()


async def test_pipelined_requests_are_answered_in_order(serve: Serve, services: Services) -> None:
    async def script(upstream: Upstream, served: Served) -> None:
        await served.ok(served.line.split()[1].encode())

    gateway = await serve(one_service(*await services(script)))
    async with gateway.connect() as client:
        targets = [b"/%d" % number for number in range(100)]
        await client.send(b"".join(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % one for one in targets))
        assert [(await client.answer()).body for _ in targets] == targets


@pytest.mark.parametrize("status", [204, 304])
async def test_responses_without_body_keep_the_connection_in_step(
    serve: Serve, services: Services, status: int
) -> None:
    async def script(upstream: Upstream, served: Served) -> None:
        await served.send(b"HTTP/1.1 %d X\r\nContent-Length: 5\r\n\r\n" % status)

    (upstream,) = await services(script)
    gateway = await serve(one_service(upstream))
    async with gateway.connect() as client:
        for _ in range(3):
            answer = await client.request("GET /")
            assert answer.status == status
            assert ("content-length" in answer.headers) is (status == 304)  # RFC 9110, 8.6
    assert upstream.connections == 1


async def test_head_is_answered_without_body(serve: Serve, services: Services) -> None:
    async def script(upstream: Upstream, served: Served) -> None:
        await served.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")

    (upstream,) = await services(script)
    gateway = await serve(one_service(upstream))
    async with gateway.connect() as client:
        for _ in range(3):
            answer = await client.request("HEAD /")
            assert answer.headers["content-length"] == "5"
    assert upstream.connections == 1


async def test_an_http_1_0_client_gets_a_body_that_ends_with_the_connection(
    serve: Serve, services: Services
) -> None:
    async def script(upstream: Upstream, served: Served) -> None:
        await served.send(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        )

    gateway = await serve(one_service(*await services(script)))
    async with gateway.connect() as client:
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        answer = await client.answer()
    assert (answer.body, answer.headers["connection"]) == (b"abc", "close")


async def test_expect_100_continue_is_answered_before_the_body_is_sent(
    echo: tuple[RunningGateway, Upstream],
) -> None:
    gateway, upstream = echo
    async with gateway.connect() as client:
        await client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
        )
        assert (await client.head())[0] == 100
        await client.send(b"abc")
        assert (await client.answer()).status == 200
    assert not upstream.served[-1].field("expect")


async def test_early_hints_are_passed_on(serve: Serve, services: Services) -> None:
    async def script(upstream: Upstream, served: Served) -> None:
        await served.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
        await served.ok()

    gateway = await serve(one_service(*await services(script)))
    async with gateway.connect() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert await client.head() == (103, {"link": "</a.css>"})
        assert (await client.answer()).body == b"ok"


LIMITS = (
    "limits: {header_bytes: 2KiB, header_count: 50, body: 10KiB, header_timeout: 1s, "
    "idle_timeout: 2s}\n"
)


@pytest.mark.parametrize(
    ("request_bytes", "status", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 3000 + b"\r\n\r\n", 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + 60 * b"X: 1\r\n" + b"\r\n", 431, "headers_too_large"),
        (b"GET /" + b"x" * 3000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, "uri_too_long"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n", 413, "body_too_large"),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4e20\r\n"
            + b"x" * 20000,
            413,
            "body_too_large",
        ),
        (b"GET / HTTP/1.1\r\nHo", 408, "request_timeout"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab", 408, "request_timeout"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "bad_request"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n", 417, "expectation_failed"),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, "version_not_supported"),
    ],
)
async def test_a_limit_or_a_bad_request_is_answered_with_its_reason_and_closes(
    serve: Serve, services: Services, request_bytes: bytes, status: int, reason: str
) -> None:
    async def script(upstream: Upstream, served: Served) -> None:
        await served.body()
        await served.ok()

    gateway = await serve(one_service(*await services(script), rest=LIMITS))
    async with gateway.connect() as client:
        await client.send(request_bytes)
        answer = await client.answer()
        assert (answer.status, answer.json["reason"]) == (status, reason)
        assert answer.headers["connection"] == "close"
        assert answer.headers["proxy-status"].endswith(f'; details="{reason}"')
        assert await client.at_eof()
    line = await gateway.access(answer.headers["x-request-id"])
    assert (line["status"], line["reason"]) == (status, reason)
    assert await gateway.metric(f'siger_local_replies_total{{reason="{reason}"}}') == 1


async def test_an_idle_connection_is_closed(serve: Serve, services: Services) -> None:
    gateway = await serve(one_service(*await services(answer_ok), rest=LIMITS))
    async with gateway.connect() as client:
        await client.request("GET /")
        assert await client.at_eof()


async def test_one_connection_too_many_is_told_so(serve: Serve, services: Services) -> None:
    gateway = await serve(
        one_service(*await services(answer_ok), rest="limits: {connections: 1}\n")
    )
    async with gateway.connect() as first:
        await first.request("GET /")
        async with gateway.connect() as second:
            answer = await second.answer()
        assert (answer.status, answer.json["reason"]) == (503, "too_many_connections")
        assert (await first.request("GET /")).status == 200


async def test_a_truncated_response_breaks_the_connection(serve: Serve, services: Services) -> None:
    async def script(upstream: Upstream, served: Served) -> None:
        await served.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this")
        served.writer.close()

    gateway = await serve(one_service(*await services(script)))
    async with gateway.connect() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-ID: cut\r\n\r\n")
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await client.answer()
    assert (await gateway.access("cut"))["reason"] == "upstream_reset"


async def test_a_truncated_chunked_response_never_gets_its_last_chunk(
    serve: Serve, services: Services
) -> None:
    async def script(upstream: Upstream, served: Served) -> None:
        await served.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        served.writer.close()

    gateway = await serve(one_service(*await services(script)))
    async with gateway.connect() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await client.answer()


async def test_a_second_response_nobody_asked_for_is_dropped_with_its_connection(
    serve: Serve, services: Services
) -> None:
    async def script(upstream: Upstream, served: Served) -> None:
        await served.ok(b"mine")
        await served.ok(b"smuggled")

    (upstream,) = await services(script)
    gateway = await serve(one_service(upstream))
    async with gateway.connect() as client:
        assert [(await client.request("GET /")).body for _ in range(5)] == [b"mine"] * 5
    assert upstream.connections == 5


async def test_a_dead_endpoint_costs_a_retry_not_a_request(
    serve: Serve, services: Services
) -> None:
    alive, dead = await services(answer_ok, answer_ok)
    await dead.stop()
    gateway = await serve(one_service(alive, dead))
    async with gateway.connect() as client:
        for _ in range(20):
            assert (await client.request("POST /", body=b"x")).status == 200
    retries = await gateway.metric('siger_retries_total{reason="connect_refused",service="s"}')
    assert retries == 10


async def test_a_get_on_a_connection_that_the_service_just_closed_is_repeated(
    serve: Serve, services: Services
) -> None:
    async def script(upstream: Upstream, served: Served) -> None:
        if len(upstream.served) == 2:  # the second request on the first connection
            raise ConnectionError
        await served.ok()

    (upstream,) = await services(script)
    gateway = await serve(one_service(upstream))
    assert (await gateway.get("/")).status == 200
    assert (await gateway.get("/")).status == 200
    assert len(upstream.served) == 3


async def test_a_post_that_may_have_been_read_is_never_sent_twice(
    serve: Serve, services: Services
) -> None:
    async def script(upstream: Upstream, served: Served) -> None:
        if served.line.startswith("POST"):
            raise ConnectionError
        await served.ok()

    (upstream,) = await services(script)
    gateway = await serve(one_service(upstream))
    await gateway.get("/")
    answer = await gateway.request("POST /", body=b"x")
    assert (answer.status, answer.json["reason"]) == (502, "upstream_reset")
    assert [served.line for served in upstream.served].count("POST / HTTP/1.1") == 1


async def test_a_service_that_does_not_answer_in_time_is_504_with_one_word_everywhere(
    serve: Serve, services: Services
) -> None:
    async def script(upstream: Upstream, served: Served) -> None:
        await served.reader.read()

    (upstream,) = await services(script)
    gateway = await serve(one_service(upstream, route=", timeout: 300ms"))
    answer = await gateway.get("/slow?token=secret")
    assert answer.status == 504
    assert answer.headers["content-type"] == "application/problem+json"
    identity = answer.headers["x-request-id"]
    assert answer.json == {
        "type": "urn:siger:problem:response_timeout",
        "title": "Gateway Timeout",
        "status": 504,
        "detail": "The service did not answer in time.",
        "instance": "/slow",
        "reason": "response_timeout",
        "request_id": identity,
    }
    status = 'siger; error=http_response_timeout; details="response_timeout"'
    assert answer.headers["proxy-status"] == status
    line = await gateway.access(identity)
    assert (line["reason"], line["service"], line["endpoint"]) == (
        "response_timeout",
        "s",
        upstream.address,
    )
    assert "secret" not in str(line)
    assert await gateway.metric('siger_local_replies_total{reason="response_timeout"}') == 1
    outcome = 'siger_upstream_requests_total{outcome="response_timeout",service="s"}'
    assert await gateway.metric(outcome) == 1


@pytest.mark.parametrize(
    ("said", "reason"),
    [(b"nonsense\r\n\r\n", "upstream_protocol"), (b"", "upstream_reset")],
)
async def test_a_service_that_answers_nonsense_or_nothing_is_502(
    serve: Serve, services: Services, said: bytes, reason: str
) -> None:
    async def script(upstream: Upstream, served: Served) -> None:
        await served.send(said)
        served.writer.close()
        await served.writer.wait_closed()

    gateway = await serve(one_service(*await services(script)))
    answer = await gateway.get("/")
    assert (answer.status, answer.json["reason"]) == (502, reason)


async def test_a_stream_may_last_longer_than_the_timeout(serve: Serve, services: Services) -> None:
    go_on = asyncio.Event()

    async def script(upstream: Upstream, served: Served) -> None:
        await served.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        await go_on.wait()
        await served.send(b"-last")

    gateway = await serve(one_service(*await services(script), route=", timeout: 100ms"))
    async with gateway.connect() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.head()
        assert await client.reader.readexactly(5) == b"first"
        # Well past the timeout, by the gateway's own clock: another request times out meanwhile.
        loop = asyncio.get_running_loop()
        started = loop.time()

        async def a_second_has_passed() -> bool:
            return loop.time() - started > 0.5

        await eventually(a_second_has_passed)
        go_on.set()
        assert await client.reader.readexactly(5) == b"-last"


async def test_a_client_that_leaves_takes_its_upstream_request_with_it(
    serve: Serve, services: Services
) -> None:
    left = asyncio.Event()

    async def script(upstream: Upstream, served: Served) -> None:
        await served.reader.read()
        left.set()

    gateway = await serve(one_service(*await services(script)))
    async with gateway.connect() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-ID: gone\r\n\r\n")
        await eventually(lambda: gateway.in_flight(1))
    await asyncio.wait_for(left.wait(), BOUND)
    line = await gateway.access("gone")
    assert (line["status"], line["reason"]) == (499, "downstream_closed")


async def test_a_slow_reader_stalls_the_service_not_the_memory(
    serve: Serve, services: Services
) -> None:
    size, sent = 200_000_000, 0

    async def script(upstream: Upstream, served: Served) -> None:
        nonlocal sent
        await served.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        piece = bytes(100_000)
        while sent < size:
            await served.send(piece)
            sent += len(piece)

    gateway = await serve(one_service(*await services(script)))
    async with gateway.connect() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.head()
        before = -1

        async def stalled() -> bool:
            nonlocal before
            quiet, before = before == sent, sent
            return quiet

        await eventually(stalled)
        assert sent < 50_000_000
        left = size
        while left:
            left -= len(await asyncio.wait_for(client.reader.read(1_000_000), BOUND))
    assert sent == size


async def test_random_paths_make_no_series(echo: tuple[RunningGateway, Upstream]) -> None:
    gateway, _ = echo
    async with gateway.connect() as client:
        await client.request("GET /x")
        before = len((await gateway.get("/metrics")).body.splitlines())
        for number in range(300):
            await client.request(f"GET /{number}/{random.random()}")
        assert len((await gateway.get("/metrics")).body.splitlines()) <= before + 2


@pytest.mark.parametrize("policy", ["round_robin", "random", "least_connections"])
async def test_every_policy_uses_all_endpoints(
    serve: Serve, services: Services, policy: str
) -> None:
    upstreams = await services(answer_ok, answer_ok, answer_ok)
    gateway = await serve(one_service(*upstreams, service=f", balance: {policy}"))
    async with gateway.connect() as client:
        seen = Counter([(await client.request("GET /")).body for _ in range(90)])
    assert len(seen) == 3
    if policy == "round_robin":
        assert set(seen.values()) == {30}


async def test_connections_to_a_service_are_reused_and_bounded(
    serve: Serve, services: Services
) -> None:
    (upstream,) = await services(answer_ok)
    gateway = await serve(one_service(upstream, service=", pool: {max_connections: 3}"))
    answers = await asyncio.gather(*(gateway.get("/") for _ in range(50)))
    assert {answer.status for answer in answers} == {200}
    assert upstream.connections <= 3


async def test_only_what_is_named_is_exposed(serve: Serve, services: Services) -> None:
    shown, hidden = await services(answer_ok, answer_ok)
    gateway = await serve(
        'consul_address: ""\nnats_address: ""\n'
        f'services: {{shown: {{endpoints: ["{shown.address}"]}},'
        f' hidden: {{endpoints: ["{hidden.address}"]}}}}\n'
        "expose_services: [shown]\n"
    )
    assert (await gateway.get("/services/shown/a/b?c")).status == 200
    assert shown.served[-1].line == "GET /a/b?c HTTP/1.1"
    for path in ("/services/hidden/a", "/services/consul/v1/agent/self", "/services"):
        answer = await gateway.get(path)
        assert (answer.status, answer.json["reason"]) == (404, "no_route")
    assert not hidden.served
