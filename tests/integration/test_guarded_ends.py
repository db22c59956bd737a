"""However an exchange ends, its place is free afterwards: every route here lets one request of a
client in at a time, so a place that is given back late, or never, is a 429."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from tests.running import BOUND, Client, RunningGateway, Served, Upstream, eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

ONE = "concurrency: {requests: 1}"


async def behave(upstream: Upstream, served: Served) -> None:
    """Does what the last segment of the path says."""
    match served.line.split()[1].rpartition("/")[2]:
        case "reset":
            served.writer.transport.abort()
        case "half":
            await served.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
            served.writer.transport.abort()
        case "stall":
            await served.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
            await served.reader.read()
        case "hang":
            await served.reader.read()
        case "tunnel":
            switching = b"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
            await served.send(switching)
            if await served.reader.read(100) == b"reset":
                served.writer.transport.abort()
            raise EOFError
        case "early":
            await served.ok()
        case "garbage":
            await served.send(b"no HTTP at all\r\n\r\n")
        case _:
            await served.body()
            await served.ok()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    upstream = Upstream(behave)
    await upstream.start()
    gateway = RunningGateway(
        Path(tmp_path_factory.mktemp("ends")),
        f"""
consul_address: ""
nats_address: ""
admin: {{port: ""}}
drain_timeout: 1s
jobs: {{{ONE}}}
services:
  s: {{endpoints: ["{upstream.address}"]}}
  none: {{endpoints: ["127.0.0.1:1"]}}
routes:
- {{name: s, match: {{path_prefix: /s}}, service: s, {ONE}, timeout: 1s, stream_idle_timeout: 1s}}
- {{name: none, match: {{path_prefix: /none}}, service: none, {ONE}}}
- {{name: small, match: {{path_prefix: /small}}, service: s, {ONE}, limits: {{body: 10}}}}
- {{name: moved, match: {{path_prefix: /moved}}, redirect: {{path: /}}, {ONE}}}
- {{name: fixed, match: {{path_prefix: /fixed}}, direct_response: {{status: 200, body: x}}, {ONE}}}
""",
    )
    try:
        await gateway.start()
        yield gateway
    finally:
        await gateway.stop()
        await upstream.stop()


async def is_free(gateway: RunningGateway, path: str) -> bool:
    """Whether the route of ``path`` lets the next one in."""
    return (await gateway.get(path)).status != 429


def lines(line: str, *fields: str) -> bytes:
    return "\r\n".join([f"{line} HTTP/1.1", "Host: a", *fields, "", ""]).encode()


CHUNKED = "Transfer-Encoding: chunked"
WEBSOCKET = ("Connection: upgrade", "Upgrade: websocket")

ENDS: dict[str, tuple[bytes, int]] = {
    "an answer": (lines("GET /s/x"), 200),
    "an answer to HEAD": (lines("HEAD /s/x"), 200),
    "an answer before the end of the body": (lines("POST /s/early", CHUNKED), 200),
    "a service that resets": (lines("GET /s/reset"), 502),
    "a service that speaks no HTTP": (lines("GET /s/garbage"), 502),
    "a service that is not there": (lines("GET /none"), 502),
    "a service that does not answer": (lines("GET /s/hang"), 504),
    "half an answer": (lines("GET /s/half"), 0),
    "an answer that stalls": (lines("GET /s/stall"), 0),
    "a body too large": (lines("POST /small", CHUNKED) + b"b\r\n12345678901\r\n", 413),
    "a length too large": (lines("POST /small", "Content-Length: 11"), 413),
    "a broken body": (lines("POST /s/x", CHUNKED) + b"x\r\n", 400),
    "a redirect": (lines("GET /moved"), 307),
    "a redirect of a body": (lines("POST /moved", "Content-Length: 1") + b"x", 307),
    "a redirect of a large body": (lines("POST /moved", "Content-Length: 999999"), 307),
    "a fixed answer": (lines("GET /fixed"), 200),
    "a broken body for a fixed answer": (lines("POST /fixed", CHUNKED) + b"x\r\n", 400),
    "an answer of the jobs": (lines("GET /api/v1/jobs"), 503),
    "a problem of the jobs": (lines("PUT /api/v1/jobs"), 503),
    "a broken body for the jobs": (lines("POST /api/v1/jobs", CHUNKED) + b"x\r\n", 400),
    "an upgrade that is declined": (lines("GET /s/x", *WEBSOCKET), 200),
}


@pytest.mark.parametrize("end", ENDS)
async def test_a_place_is_free_after(gateway: RunningGateway, end: str) -> None:
    sends, status = ENDS[end]
    path = sends.split()[1].decode().removesuffix("/early").removesuffix("/hang")
    free_path = "/" + path.split("/")[1] if not path.startswith("/api") else path
    async with gateway.connect() as client:
        await client.send(sends)
        if status:
            assert (await client.head())[0] == status
        else:
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await client.answer()
        assert await is_free(gateway, free_path)


async def wait_for_exchange(gateway: RunningGateway) -> None:
    await eventually(lambda: gateway.in_flight(1))


async def no_answer(client: Client) -> None: ...


async def a_head(client: Client) -> None:
    await client.head()


GONE: dict[str, tuple[bytes, Callable[[Client], Awaitable[None]]]] = {
    "before the answer": (lines("GET /s/hang"), no_answer),
    "during the answer": (lines("GET /s/stall"), a_head),
    "during a body": (lines("POST /s/x", CHUNKED) + b"1\r\nx\r\n", no_answer),
    "during a body of which all is awaited": (lines("POST /s/x", "Content-Length: 9"), no_answer),
    "during a body for a redirect": (lines("POST /moved", "Content-Length: 9"), no_answer),
    "during a body for the jobs": (lines("POST /api/v1/jobs", "Content-Length: 9"), no_answer),
    "in a tunnel": (lines("GET /s/tunnel", *WEBSOCKET), a_head),
}


@pytest.mark.parametrize("reset", [False, True], ids=["closes", "resets"])
@pytest.mark.parametrize("when", GONE)
async def test_a_place_is_taken_until_the_client_goes(
    gateway: RunningGateway, when: str, reset: bool
) -> None:
    sends, begin = GONE[when]
    path = sends.split()[1].decode()
    free_path = path if path.startswith("/api") else "/" + path.split("/")[1]
    async with gateway.connect() as client:
        await client.send(sends)
        await begin(client)
        await wait_for_exchange(gateway)
        assert not await is_free(gateway, free_path)
        if reset:
            client.writer.transport.abort()
    await eventually(lambda: is_free(gateway, free_path))
    await eventually(lambda: gateway.in_flight(0))


@pytest.mark.parametrize("message", [b"reset", b"bye"])
async def test_a_place_is_taken_until_the_service_ends_a_tunnel(
    gateway: RunningGateway, message: bytes
) -> None:
    async with gateway.connect() as client:
        await client.send(lines("GET /s/tunnel", *WEBSOCKET))
        assert (await client.head())[0] == 101
        assert not await is_free(gateway, "/s")
        await client.send(message)
        assert await client.at_eof()
        await eventually(lambda: is_free(gateway, "/s"))


@pytest.mark.parametrize("path", ["/s/x", "/moved", "/fixed", "/api/v1/jobs"])
async def test_a_place_is_free_before_the_next_request_of_a_connection(
    gateway: RunningGateway, path: str
) -> None:
    async with gateway.connect() as client:
        await client.send(lines(f"GET {path}", "X-Request-ID: first") * 5)
        statuses = {(await client.answer()).status for _ in range(5)}
        assert len(statuses) == 1
        assert 429 not in statuses


async def test_what_one_request_brings_is_not_told_of_the_next(gateway: RunningGateway) -> None:
    body = b'{"type": "x"}'
    first = lines(
        "POST /api/v1/jobs",
        "X-Request-ID: with-body",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    )
    async with gateway.connect() as client:
        await client.send(first + body + lines("GET /api/v1/jobs", "X-Request-ID: without"))
        answers = [await client.answer() for _ in range(2)]
    for request_id, size, answer in zip(
        ("with-body", "without"), (len(body), 0), answers, strict=True
    ):
        line = await gateway.access(request_id)
        assert (line["bytes_in"], line["bytes_out"]) == (size, len(answer.body))


async def test_a_drain_ends_what_holds_a_place(gateway: RunningGateway) -> None:
    """Last: nothing is served afterwards."""
    async with gateway.connect() as client, gateway.connect() as tunnel:
        await tunnel.send(lines("GET /s/tunnel", *WEBSOCKET, "X-Request-ID: tunnel"))
        assert (await tunnel.head())[0] == 101
        await client.send(lines("POST /moved", "Content-Length: 9", "X-Request-ID: waits"))
        await eventually(lambda: gateway.in_flight(2))
        gateway.send(signal.SIGTERM)
        async with asyncio.timeout(BOUND):
            await gateway.wait()
    for request_id in ("tunnel", "waits"):
        assert (await gateway.access(request_id))["reason"]
