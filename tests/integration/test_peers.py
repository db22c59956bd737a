"""The gateway between real proxies: nginx, HAProxy and Envoy behind it, and in front of it.

Client and service are scripts of the test, so what each end of the chain sees can be told exactly:
what the peer makes of the gateway's bytes, and the gateway of the peer's.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from tests.load import KEPT, Load
from tests.peers import PEERS, HAProxy, Nginx, Peer
from tests.running import BOUND, Client, RunningGateway, Served, Upstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

BODY = bytes(range(256)) * 16
LARGE = 8 << 20
ETAG = '"5f2b8c6d1e90"'


@dataclass
class Chain:
    """client -> peer -> gateway -> service, or client -> gateway -> peer -> service."""

    peer: Peer
    peer_in_front: bool
    gateway: RunningGateway
    service: Upstream

    @property
    def port(self) -> int:
        return self.peer.port if self.peer_in_front else self.gateway.port

    @contextlib.asynccontextmanager
    async def connect(self, source: str = "127.0.0.1") -> AsyncIterator[Client]:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, local_addr=(source, 0), limit=1 << 20
        )
        try:
            yield Client(reader, writer)
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def service(upstream: Upstream, served: Served) -> None:
    """Answers as the path says."""
    path = served.line.split()[1]
    if path == "/not-modified":
        await served.send(f"HTTP/1.1 304 Not Modified\r\nETag: {ETAG}\r\n\r\n".encode())
    elif path == "/nothing":
        await served.send(b"HTTP/1.1 204 No Content\r\n\r\n")
    elif path == "/head":
        await served.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nX-A: b\r\n\r\n")
    elif path == "/chunked":
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(BODY), BODY) for _ in range(8))
        await served.send(head + chunks + b"0\r\nX-Sum: 42\r\n\r\n")
    elif path == "/large":
        await served.ok(BODY * (LARGE // len(BODY)))
    else:
        body, trailers = await read(served)
        seen = {
            "line": served.line,
            "fields": [(name.lower(), value) for name, value in served.fields],
            "sha256": hashlib.sha256(body).hexdigest(),
            "trailers": trailers,
        }
        await served.ok(json.dumps(seen).encode())


async def read(served: Served) -> tuple[bytes, str]:
    """The request's body and trailers."""
    fields = {name.lower(): value for name, value in served.fields}
    if "transfer-encoding" in fields:
        return await read_chunked(served.reader)
    return await served.reader.readexactly(int(fields.get("content-length", 0))), ""


async def read_chunked(reader: asyncio.StreamReader) -> tuple[bytes, str]:
    """A chunked body and its trailers, these in lower case."""
    body = trailers = b""
    async with asyncio.timeout(BOUND):
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
            trailers += line
    return body, trailers.decode().lower()


def chunked(body: bytes, size: int) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


@pytest_asyncio.fixture(
    params=[(peer, in_front) for peer in PEERS for in_front in (False, True)],
    ids=[f"{peer.name} {place}" for peer in PEERS for place in ("behind", "in front")],
    scope="module",
    loop_scope="module",
)
async def chain(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Chain]:
    kind, in_front = request.param
    folder = tmp_path_factory.mktemp("peer")
    upstream = Upstream(service)
    await upstream.start()
    peer: Peer = kind(folder / "peer", upstream.port)
    gateway = RunningGateway(folder, config(upstream.address if in_front else peer.address))
    await gateway.start()
    if in_front:
        peer.behind = gateway.port
    await peer.start()
    yield Chain(peer, in_front, gateway, upstream)
    await peer.stop()
    await gateway.stop()
    await upstream.stop()


def config(*addresses: str) -> str:
    return (
        'consul_address: ""\nnats_address: ""\ntrusted_proxies: ["127.0.0.1"]\n'
        f"services: {{s: {{endpoints: {list(addresses)}}}}}\n"
        "routes: [{name: r, match: {path_prefix: /}, service: s}]\n"
    )


async def test_requests_follow_each_other_on_one_connection_and_reuse_those_behind(
    chain: Chain,
) -> None:
    async with chain.connect() as client:
        opened = chain.service.connections
        for number in range(20):
            answer = await client.request(f"GET /x/{number}?a=%2F")
            assert (answer.status, answer.json["line"]) == (200, f"GET /x/{number}?a=%2F HTTP/1.1")
        assert chain.service.connections <= opened + 2


@pytest.mark.parametrize("framing", ["sized", "chunked"])
async def test_a_posted_body_arrives_in_either_framing(chain: Chain, framing: str) -> None:
    async with chain.connect() as client:
        for _ in range(3):
            if framing == "sized":
                answer = await client.request("POST /p", body=BODY)
            else:
                head = b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                await client.send(head + chunked(BODY, 1000) + b"0\r\n\r\n")
                answer = await client.answer()
            assert answer.json["sha256"] == hashlib.sha256(BODY).hexdigest()


async def test_a_chunked_response_arrives_whole(chain: Chain) -> None:
    async with chain.connect() as client:
        for _ in range(3):
            answer = await client.request("GET /chunked")
            assert (answer.headers["transfer-encoding"], answer.body) == ("chunked", BODY * 8)


async def test_trailers_of_a_request_arrive_where_the_peer_passes_them(chain: Chain) -> None:
    async with chain.connect() as client:
        head = (
            b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
        )
        await client.send(head + chunked(BODY, 1000) + b"0\r\nX-Sum: 42\r\n\r\n")
        expected = "x-sum: 42\r\n" if chain.peer.passes_request_trailers else ""
        assert (await client.answer()).json["trailers"] == expected


async def test_trailers_of_a_response_arrive(chain: Chain) -> None:
    async with chain.connect() as client:
        await client.send(
            b"GET /chunked HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n"
        )
        await client.head()
        assert await read_chunked(client.reader) == (BODY * 8, "x-sum: 42\r\n")
        assert (await client.request("GET /x")).status == 200


async def test_a_client_that_expects_100_is_told_to_continue(chain: Chain) -> None:
    async with chain.connect() as client:
        await client.send(
            b"POST /p HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
            % len(BODY)
        )
        assert (await client.head())[0] == 100
        await client.send(BODY)
        answer = await client.answer()
        assert (answer.status, answer.json["sha256"]) == (200, hashlib.sha256(BODY).hexdigest())


async def test_responses_without_body_keep_the_connection_in_step(chain: Chain) -> None:
    async with chain.connect() as client:
        for _ in range(3):
            answer = await client.request("HEAD /head")
            assert (answer.status, answer.headers["content-length"]) == (200, "1000")
            answer = await client.request("GET /not-modified", f"If-None-Match: {ETAG}")
            assert (answer.status, answer.headers["etag"]) == (304, ETAG)
            assert (await client.request("GET /nothing")).status == 204
            assert (await client.request("GET /x")).json["line"] == "GET /x HTTP/1.1"


async def test_large_bodies_arrive_whole_both_ways(chain: Chain) -> None:
    async with chain.connect() as client:
        body = BODY * (LARGE // len(BODY))
        answer = await client.request("POST /p", body=body)
        assert answer.json["sha256"] == hashlib.sha256(body).hexdigest()
        assert (await client.request("GET /large")).body == body


async def test_the_chain_of_forwarded_addresses_holds_every_hop(chain: Chain) -> None:
    async with chain.connect("127.0.0.2") as client:
        answer = await client.request("GET /x", "X-Forwarded-For: 6.6.6.6")
        fields = dict(answer.json["fields"])
        chains = [value for name, value in answer.json["fields"] if name == "x-forwarded-for"]
        hops = [hop.strip() for hop in ",".join(chains).split(",")]
        if chain.peer_in_front:
            # Envoy names its own address in place of a loopback address.
            assert chain.peer.name == "envoy" or hops == ["6.6.6.6", "127.0.0.2", "127.0.0.1"]
            assert hops[-1] == "127.0.0.1"
            client_of_the_peer = hops[-2]
        else:  # the client is nobody's trusted proxy
            client_of_the_peer = "127.0.0.2"
            assert hops[0] == client_of_the_peer
        assert fields["x-forwarded-host"] == fields["host"] == "gateway.test"
        assert fields["via"] == "1.1 siger"
        line = await chain.gateway.access(answer.headers["x-request-id"])
        assert line["client"] == client_of_the_peer


@pytest.mark.parametrize("kind", [Nginx, HAProxy])
async def test_no_get_fails_while_peers_behind_the_gateway_are_replaced(
    kind: type[Peer], tmp_path: Path
) -> None:
    origin = Upstream(service)
    await origin.start()
    peers = [kind(tmp_path / str(number), origin.port) for number in range(2)]
    for peer in peers:
        await peer.start()
    gateway = RunningGateway(tmp_path, config(*(peer.address for peer in peers)))
    await gateway.start()
    try:
        async with Load(gateway.port, KEPT).running(10) as load:
            for peer in peers:
                await load.more(50)
                await peer.leave()
                await load.more(50)
                await peer.start()
                await load.more(50)
        assert not load.failed, load
    finally:
        await gateway.stop()
        for peer in peers:
            await peer.stop()
        await origin.stop()
