"""TLS as a transport: two of them, client and server, over a real socket pair."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from siger_gateway.tls.transport import TlsTransport
from tests.certificates import NAME, Authority
from tests.running import BOUND


class End(asyncio.Protocol):
    """One end of a connection: keeps what happens to it, and owns its handshake."""

    def __init__(self, half_close: bool = False) -> None:
        self.half_close = half_close
        self.received = bytearray()
        self.eof = asyncio.Event()
        self.established: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.news = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()
        self.tls: TlsTransport

    def on_handshake_done(self, transport: TlsTransport) -> asyncio.BaseProtocol:
        self.tls = transport
        return self

    def on_handshake_failed(self, error: Exception) -> None:
        self.established.set_exception(error)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.established.set_result(None)

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.news.set()

    def eof_received(self) -> bool:
        self.eof.set()
        return self.half_close

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    async def wait(self, count: int) -> bytes:
        """The first ``count`` bytes that came."""
        async with asyncio.timeout(BOUND):
            while len(self.received) < count:
                self.news.clear()
                await self.news.wait()
        return bytes(self.received)

    async def end(self) -> Exception | None:
        async with asyncio.timeout(BOUND):
            return await self.lost


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def contexts(
    request: pytest.FixtureRequest, authority: Authority
) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of the server and of the client."""
    server = authority.server(authority.issue("server", NAME))
    server.maximum_version = request.param
    return server, authority.client()


@contextlib.asynccontextmanager
async def joined(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], server: End, client: End, name: str = NAME
) -> AsyncIterator[tuple[asyncio.Transport, asyncio.Transport]]:
    """Joins the two; yields the plain transports under them."""
    loop = asyncio.get_running_loop()
    ends = (
        TlsTransport.server_side(contexts[0], server),
        TlsTransport.client_side(contexts[1], client, name),
    )
    plain: list[Any] = []
    for one, tls in zip(socket.socketpair(), ends, strict=True):
        plain.append((await loop.create_connection(lambda tls=tls: tls, sock=one))[0])  # type: ignore[misc]
    try:
        yield cast(Any, tuple(plain))
    finally:
        for transport in plain:
            transport.abort()


async def established(*ends: End) -> None:
    async with asyncio.timeout(BOUND):
        await asyncio.gather(*(end.established for end in ends))


Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


async def test_what_is_written_arrives_at_the_other_end(contexts: Contexts) -> None:
    server, client = End(), End()
    async with joined(contexts, server, client):
        await established(server, client)
        client.tls.write(b"ask")
        assert await server.wait(3) == b"ask"
        server.tls.writelines([b"re", b"", bytearray(b"ply")])
        server.tls.write(b"")
        assert await client.wait(5) == b"reply"
        assert client.tls.get_extra_info("ssl_object").version() == contexts[
            0
        ].maximum_version.name.replace("_", ".")


async def test_large_writes_arrive_whole_and_pause_the_writer(contexts: Contexts) -> None:
    server, client = End(), End()
    data = hashlib.sha256(b"x").digest() * 100_000  # 3.2 MB
    async with joined(contexts, server, client):
        await established(server, client)
        client.tls.pause_reading()
        server.tls.set_write_buffer_limits(high=100_000)
        server.tls.write(data)
        assert not server.writable.is_set()
        assert server.tls.get_write_buffer_size() > 100_000
        client.tls.resume_reading()
        assert await client.wait(len(data)) == data
        async with asyncio.timeout(BOUND):
            await server.writable.wait()


async def test_close_is_told_from_being_cut_off(contexts: Contexts) -> None:
    for close, clean in ((TlsTransport.close, True), (TlsTransport.abort, False)):
        server, client = End(), End()
        async with joined(contexts, server, client):
            await established(server, client)
            server.tls.write(b"last words")
            await client.wait(10)
            close(server.tls)
            assert server.tls.is_closing()
            error = await client.end()
            assert (error is None) is clean, error
            assert client.eof.is_set() or not clean
            assert await server.end() is None


async def test_the_end_of_the_plain_stream_is_a_cut(contexts: Contexts) -> None:
    server, client = End(), End()
    async with joined(contexts, server, client) as (plain, _):
        await established(server, client)
        plain.write_eof()
        assert isinstance(await client.end(), ConnectionResetError)


async def test_one_direction_can_be_closed_first(contexts: Contexts) -> None:
    server, client = End(half_close=True), End(half_close=True)
    async with joined(contexts, server, client):
        await established(server, client)
        assert client.tls.can_write_eof()
        client.tls.write(b"that is all")
        client.tls.write_eof()
        client.tls.write(b"never sent")
        client.tls.write_eof()
        async with asyncio.timeout(BOUND):
            await server.eof.wait()
        assert bytes(server.received) == b"that is all"
        for piece in (b"still ", b"here"):
            server.tls.write(piece)
        assert await client.wait(10) == b"still here"
        server.tls.close()
        async with asyncio.timeout(BOUND):
            await client.eof.wait()
        client.tls.close()  # as on a plain transport: who asks to keep it open closes it
        assert await client.end() is None
        assert await server.end() is None


async def test_garbage_after_the_handshake_breaks_the_connection(contexts: Contexts) -> None:
    server, client = End(), End()
    async with joined(contexts, server, client) as (plain, _):
        await established(server, client)
        server.tls.write(b"good")
        plain.write(b"\x17\x03\x03\x00\x20" + bytes(32))
        assert isinstance(await client.end(), ssl.SSLError)
        assert bytes(client.received) == b"good"
        client.tls.write(b"nobody hears it")
        client.tls.pause_reading()
        client.tls.resume_reading()


async def test_a_certificate_for_another_name_fails_the_handshake(contexts: Contexts) -> None:
    server, client = End(), End()
    async with joined(contexts, server, client, "other.test"):
        async with asyncio.timeout(BOUND):
            with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
                await client.established
            with pytest.raises(ssl.SSLError, match="ALERT"):
                await server.established


@pytest.mark.parametrize("how", ["abort", "eof"])
async def test_a_peer_that_leaves_in_the_handshake_fails_it(contexts: Contexts, how: str) -> None:
    server = End()
    tls = TlsTransport.server_side(contexts[0], server)
    ours, theirs = socket.socketpair()
    plain, _ = await asyncio.get_running_loop().create_connection(lambda: tls, sock=ours)
    with theirs:
        theirs.send(b"\x16\x03\x01\x00\x80")
        if how == "eof":
            theirs.shutdown(socket.SHUT_WR)
        else:
            theirs.close()
        async with asyncio.timeout(BOUND):
            with pytest.raises(OSError, match="closed during the handshake"):
                await server.established
    plain.abort()


async def test_one_byte_at_a_time_is_enough(authority: Authority) -> None:
    server, client = End(), End()
    context = authority.server(authority.issue("server", NAME))
    async with joined((context, authority.client()), server, client):
        await established(server, client)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        ours, theirs = socket.socketpair()
        slow = End()
        tls = TlsTransport.server_side(context, slow)
        plain, _ = await asyncio.get_running_loop().create_connection(lambda: tls, sock=ours)
        reader, writer = await asyncio.open_connection(sock=theirs)
        peer = authority.client().wrap_bio(incoming, outgoing, False, NAME)
        async with asyncio.timeout(BOUND):
            while not slow.established.done():
                with contextlib.suppress(ssl.SSLWantReadError):
                    peer.do_handshake()
                    peer.write(b"early")
                for byte in outgoing.read():
                    tls.data_received(bytes([byte]))
                if not slow.established.done():
                    incoming.write(await reader.read(65536))
        assert await slow.wait(5) == b"early"
        writer.transport.abort()
        plain.abort()
