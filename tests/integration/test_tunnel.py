"""Tunnels and long streams, over real sockets: whose bytes they are, how they end, and when.

What may be offered, and WebSocket with a real library, is in ``test_upgrade``.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import struct
from collections.abc import Callable

import pytest

from tests.conftest import Serve, Services
from tests.running import BOUND, Client, Served, Upstream, answer_ok, eventually

MEBIBYTE = 1 << 20

ASK = b"GET /t HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: Echo/1\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo/1\r\n\r\n"


def routed(address: str, *, route: str = "", service: str = "", rest: str = "") -> str:
    return (
        'consul_address: ""\nnats_address: ""\n'
        f'services: {{s: {{endpoints: ["{address}"] {service}}}}}\n'
        f"routes: [{{name: r, match: {{path_prefix: /}}, service: s {route}}}]\n{rest}"
    )


async def echo(upstream: Upstream, served: Served) -> None:
    """Switches protocols, and sends everything back until the end."""
    await served.send(SWITCH)
    await echo_on(served)


async def echo_on(served: Served) -> None:
    while data := await served.reader.read(65536):
        await served.send(data)
    raise EOFError


async def opened(client: Client, ask: bytes = ASK) -> dict[str, str]:
    """Opens a tunnel; the fields of the 101."""
    await client.send(ask)
    status, fields = await client.head()
    assert status == 101
    return fields


async def read_exactly(client: Client, size: int) -> bytes:
    async with asyncio.timeout(BOUND):
        return await client.reader.readexactly(size)


def reset(writer: asyncio.StreamWriter) -> None:
    """Closes the connection so that the other end sees a reset (SO_LINGER in socket(7))."""
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def was_reset(reader: asyncio.StreamReader) -> bool:
    """Waits for the end of the stream: whether it was a reset."""
    try:
        async with asyncio.timeout(BOUND):
            await reader.read()
    except ConnectionResetError:
        return True
    return False


# Opening.


async def test_a_service_that_accepts_gets_the_bytes_of_the_client_and_back(
    serve: Serve, services: Services
) -> None:
    (upstream,) = await services(echo)
    gateway = await serve(routed(upstream.address))
    async with gateway.connect() as client:
        fields = await opened(client, ASK.replace(b"Host", b"X-Request-ID: t1\r\nHost"))
        assert fields["connection"] == "upgrade"
        assert fields["upgrade"] == "echo/1"
        assert fields["x-request-id"] == "t1"
        for piece in (b"\x00\xff", b"GET / HTTP/1.1\r\n\r\n", b"x" * 1_000_000):
            await client.send(piece)
            assert await read_exactly(client, len(piece)) == piece
        assert await gateway.metric('siger_upstream_connections{service="s",state="busy"}') == 1
        assert await gateway.metric("siger_http_requests_in_flight") == 2  # and the scrape itself
        client.writer.write_eof()
        assert await client.at_eof()
    served = upstream.served[-1]
    assert served.field("connection") == ["upgrade"]
    assert served.field("upgrade") == ["Echo/1"]
    line = await gateway.access("t1")
    assert (line["status"], line["reason"]) == (101, "")
    assert (line["bytes_in"], line["bytes_out"]) == (1_000_020, 1_000_020)
    assert await gateway.metric('siger_http_requests_total{code="101",method="GET",route="r"}') == 1
    assert await gateway.metric('siger_upstream_connections{service="s",state="busy"}') == 0
    assert await gateway.metric("siger_http_requests_in_flight") == 1


async def test_whitespace_behind_the_protocol_chosen_means_nothing(
    serve: Serve, services: Services
) -> None:
    async def spaced(upstream: Upstream, served: Served) -> None:
        await served.send(SWITCH.replace(b"echo/1", b"echo/1 \t"))
        await echo_on(served)

    (upstream,) = await services(spaced)
    gateway = await serve(routed(upstream.address))
    async with gateway.connect() as client:
        assert (await opened(client))["upgrade"] == "echo/1"


async def test_the_first_bytes_of_the_tunnel_may_come_with_the_heads(
    serve: Serve, services: Services
) -> None:
    async def script(upstream: Upstream, served: Served) -> None:
        hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        switch = SWITCH.replace(b"Upgrade: e", b"Content-Length: 3\r\nUpgrade: e")
        await served.send(hints + switch + b"hello")
        await echo_on(served)

    (upstream,) = await services(script)
    gateway = await serve(routed(upstream.address))
    async with gateway.connect() as client:
        # It looks like a request, but is data of the tunnel.
        early = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
        await client.send(ASK + early)
        assert await client.head() == (103, {"link": "</a>"})
        status, fields = await client.head()
        assert status == 101
        assert "content-length" not in fields  # RFC 9110 section 8.6: it has none
        assert await read_exactly(client, 5 + len(early)) == b"hello" + early
    assert len(upstream.served) == 1


async def test_more_than_a_read_may_come_before_the_101(serve: Serve, services: Services) -> None:
    go_on = asyncio.Event()

    async def script(upstream: Upstream, served: Served) -> None:
        await go_on.wait()
        await echo(upstream, served)

    gateway = await serve(routed((await services(script))[0].address))
    early = bytes(range(256)) * 8192
    async with gateway.connect() as client:
        sending = asyncio.create_task(client.send(ASK + early))
        await eventually(lambda: gateway.in_flight(1))
        go_on.set()
        assert (await client.head())[0] == 101
        assert await read_exactly(client, len(early)) == early
        await sending


@pytest.mark.parametrize(
    ("fields", "forwarded"),
    [
        (b"Connection: upgrade\r\nUpgrade: a, b/2\r\nUpgrade: C\r\n", ["a, b/2, C"]),
        (b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n", ["websocket"]),
        (
            b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n",
            [],
        ),
        (b"Connection: upgrade\r\nUpgrade: H2C, websocket, TLS/1.2\r\n", []),
        (b"Connection: upgrade\r\nUpgrade: HTTP/2.0\r\n", []),
        (b"Connection: upgrade\r\nUpgrade: websocket, a b\r\n", []),
        (b"Proxy-Connection: upgrade\r\nUpgrade: websocket\r\n", []),
        (b"Upgrade: websocket\r\n", []),
        (b"Connection: upgrade\r\n", []),
    ],
)
async def test_what_is_asked_for_is_forwarded_unless_it_is_http_or_tls(
    serve: Serve, services: Services, fields: bytes, forwarded: list[str]
) -> None:
    (upstream,) = await services(answer_ok)
    gateway = await serve(routed(upstream.address))
    async with gateway.connect() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n")
        assert (await client.answer()).status == 200
    served = upstream.served[-1]
    assert served.field("upgrade") == forwarded
    assert served.field("connection") == (["upgrade"] if forwarded else [])
    assert not served.field("http2-settings")


async def test_a_refused_upgrade_is_an_answer_like_any_other(
    serve: Serve, services: Services
) -> None:
    async def script(upstream: Upstream, served: Served) -> None:
        if served.field("upgrade"):
            await served.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        else:
            await served.ok()

    (upstream,) = await services(script)
    gateway = await serve(routed(upstream.address))
    async with gateway.connect() as client:
        # What was sent behind it is the next request after all, even in pieces.
        await client.send(ASK + b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n" + ASK + b"GET /la")
        assert (await client.answer()).body == b"no"
        assert (await client.answer()).body == b"ok"
        assert (await client.answer()).body == b"no"
        await client.send(b"st HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.answer()).body == b"ok"
    lines = [served.line for served in upstream.served]
    assert lines == [f"GET {path} HTTP/1.1" for path in ("/t", "/next", "/t", "/last")]
    assert upstream.connections == 1


async def test_an_incomplete_head_held_behind_an_upgrade_times_out_like_any_other(
    serve: Serve, services: Services
) -> None:
    (upstream,) = await services(answer_ok)
    gateway = await serve(routed(upstream.address, rest="limits: {header_timeout: 200ms}\n"))
    async with gateway.connect() as client:
        await client.send(ASK + b"GET /la")
        assert (await client.answer()).status == 200
        assert (await client.answer()).status == 408


async def test_an_upgrade_moves_on_from_an_endpoint_that_refuses(
    serve: Serve, services: Services
) -> None:
    dead, alive = await services(echo, echo)
    await dead.stop()
    gateway = await serve(routed(f'{dead.address}", "{alive.address}'))
    for _ in range(4):
        async with gateway.connect() as client:
            await opened(client)
    assert len(alive.served) == 4


async def test_tunnels_count_among_the_connections_to_an_endpoint(
    serve: Serve, services: Services
) -> None:
    (upstream,) = await services(echo)
    gateway = await serve(
        routed(upstream.address, service=", pool: {max_connections: 1}", route=", timeout: 5s")
    )
    async with gateway.connect() as first, gateway.connect() as second:
        await opened(first)
        await second.send(ASK)
        await eventually(lambda: gateway.in_flight(2))
        assert upstream.connections == 1
        first.writer.close()
        assert (await second.head())[0] == 101


async def test_an_open_tunnel_weighs_on_its_endpoint_until_it_ends(
    serve: Serve, services: Services
) -> None:
    both = await services(echo, echo)
    gateway = await serve(
        routed(f'{both[0].address}", "{both[1].address}', service=", balance: least_connections")
    )
    async with gateway.connect() as lasting:
        await opened(lasting)
        busy, free = sorted(both, key=lambda one: -len(one.served))
        for number in range(1, 4):  # always the same: the one that nobody uses any more
            async with gateway.connect() as client:
                await opened(client)
                client.writer.write_eof()
                assert await client.at_eof()
            await eventually(lambda: gateway.in_flight(1))
            assert (len(busy.served), len(free.served)) == (1, number)


async def test_what_is_held_behind_upgrades_does_not_grow_with_their_number(
    serve: Serve, services: Services
) -> None:
    """Each answer lets the gateway go on to the next one, but not read more than it can hold."""

    async def script(upstream: Upstream, served: Served) -> None:
        if len(upstream.served) > 300:
            await served.reader.read()
        await served.ok()

    (upstream,) = await services(script)
    gateway = await serve(routed(upstream.address))
    sent = 0

    async def send(client: Client) -> None:
        nonlocal sent
        while True:
            await client.send(ASK * 1000)
            sent += len(ASK) * 1000

    async with gateway.connect() as client:
        sending = asyncio.create_task(send(client))
        before = -1

        async def stalled() -> bool:
            nonlocal before
            quiet, before = before == sent, sent
            return quiet and len(upstream.served) > 300

        await eventually(stalled)
        assert sent < 16 * MEBIBYTE  # most of it in the kernel's buffers
        sending.cancel()
        client.writer.transport.abort()


# Ending.


async def test_a_client_that_has_sent_all_still_gets_the_answer(
    serve: Serve, services: Services
) -> None:
    async def script(upstream: Upstream, served: Served) -> None:
        await served.send(SWITCH)
        asked = await served.reader.read()
        await served.send(b"%d bytes" % len(asked))
        raise EOFError

    gateway = await serve(routed((await services(script))[0].address))
    async with gateway.connect() as client:
        await opened(client)
        await client.send(bytes(3 * MEBIBYTE))
        client.writer.write_eof()
        assert await read_exactly(client, 13) == b"3145728 bytes"
        assert await client.at_eof()


async def test_a_service_that_has_sent_all_still_gets_what_the_client_sends(
    serve: Serve, services: Services
) -> None:
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def script(upstream: Upstream, served: Served) -> None:
        await served.send(SWITCH + b"bye")
        served.writer.write_eof()
        got.set_result(await served.reader.read())
        raise EOFError

    gateway = await serve(routed((await services(script))[0].address))
    async with gateway.connect() as client:
        await opened(client, ASK.replace(b"Host", b"X-Request-ID: half\r\nHost"))
        assert await read_exactly(client, 3) == b"bye"
        assert await client.at_eof()
        await client.send(bytes(3 * MEBIBYTE))
        client.writer.write_eof()
        assert len(await asyncio.wait_for(got, BOUND)) == 3 * MEBIBYTE
    line = await gateway.access("half")
    assert (line["reason"], line["bytes_in"], line["bytes_out"]) == ("", 3 * MEBIBYTE, 3)


async def test_a_reset_by_the_service_reaches_the_client(serve: Serve, services: Services) -> None:
    async def script(upstream: Upstream, served: Served) -> None:
        await served.send(SWITCH)
        await served.reader.readexactly(1)
        reset(served.writer)

    gateway = await serve(routed((await services(script))[0].address))
    async with gateway.connect() as client:
        await opened(client, ASK.replace(b"Host", b"X-Request-ID: cut\r\nHost"))
        await client.send(b"x")
        assert await was_reset(client.reader)
    line = await gateway.access("cut")
    assert (line["status"], line["reason"]) == (101, "upstream_reset")
    await eventually(lambda: gateway.in_flight(0))


async def test_a_reset_by_the_client_reaches_the_service(serve: Serve, services: Services) -> None:
    seen: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def script(upstream: Upstream, served: Served) -> None:
        await served.send(SWITCH)
        seen.set_result(await was_reset(served.reader))
        raise EOFError

    gateway = await serve(routed((await services(script))[0].address))
    async with gateway.connect() as client:
        await opened(client, ASK.replace(b"Host", b"X-Request-ID: gone\r\nHost"))
        reset(client.writer)
        assert await asyncio.wait_for(seen, BOUND)
    line = await gateway.access("gone")
    assert (line["status"], line["reason"]) == (101, "downstream_closed")
    assert await gateway.metric('siger_upstream_connections{service="s",state="busy"}') == 0


@pytest.mark.parametrize("reader", ["client", "service"])
async def test_a_stalled_reader_stalls_the_sender_not_the_memory(
    serve: Serve, services: Services, reader: str
) -> None:
    """What the kernel and both processes buffer is far below ``size``; then all of it arrives."""
    size, sent, got = 64 * MEBIBYTE, 0, 0
    go_on = asyncio.Event()

    async def pour(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        while sent < size:
            writer.write(bytes(65536))
            await writer.drain()
            sent += 65536

    async def drink(reader: asyncio.StreamReader) -> None:
        nonlocal got
        await go_on.wait()
        while got < size:
            got += len(await reader.read(MEBIBYTE)) or size

    async def script(upstream: Upstream, served: Served) -> None:
        await served.send(SWITCH)
        await (pour(served.writer) if reader == "client" else drink(served.reader))
        await served.reader.read()

    gateway = await serve(routed((await services(script))[0].address))
    before = -1

    async def stalled() -> bool:
        nonlocal before
        quiet, before = before == sent > 0, sent
        return quiet

    async with gateway.connect() as client:
        await opened(client)
        work = asyncio.create_task(
            drink(client.reader) if reader == "client" else pour(client.writer)
        )
        await eventually(stalled)
        assert sent < size // 2
        go_on.set()
        await asyncio.wait_for(work, BOUND)

        async def arrived() -> bool:
            return got == size

        await eventually(arrived)
    assert sent == size


# Silence.


async def test_a_tunnel_is_reset_only_when_both_sides_are_silent(
    serve: Serve, services: Services
) -> None:
    broken: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def trickle(writer: asyncio.StreamWriter, until: Callable[[], bool]) -> None:
        """One way only, at the pace of other requests."""
        while not until():
            writer.write(b".")
            await writer.drain()
            await gateway.get("/health/live")

    async def script(upstream: Upstream, served: Served) -> None:
        await served.send(SWITCH)
        await served.reader.readuntil(b"!")
        await trickle(served.writer, longer_than_the_timeout())
        broken.set_result(await was_reset(served.reader))
        raise EOFError

    gateway = await serve(
        routed((await services(script))[0].address, route=", stream_idle_timeout: 1s")
    )
    async with gateway.connect() as client:
        await opened(client, ASK.replace(b"Host", b"X-Request-ID: idle\r\nHost"))
        await trickle(client.writer, longer_than_the_timeout())
        await client.send(b"!")
        assert await was_reset(client.reader)
        assert await asyncio.wait_for(broken, BOUND)
    line = await gateway.access("idle")
    assert (line["status"], line["reason"]) == (101, "stream_idle_timeout")
    assert line["bytes_in"] > 1
    assert line["bytes_out"] > 1
    assert line["duration"] > 3.0


def longer_than_the_timeout() -> Callable[[], bool]:
    """True once so much time has passed that a silent stream would have been broken off."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    return lambda: loop.time() - started > 1.6


async def test_a_response_that_falls_silent_is_broken_off(serve: Serve, services: Services) -> None:
    async def script(upstream: Upstream, served: Served) -> None:
        await served.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        await served.reader.read()

    gateway = await serve(
        routed((await services(script))[0].address, route=", stream_idle_timeout: 200ms")
    )
    async with gateway.connect() as client:
        with pytest.raises(asyncio.IncompleteReadError) as broken:
            await client.request("GET /", "X-Request-ID: silent")
        assert broken.value.partial == b"first"
    line = await gateway.access("silent")
    assert (line["status"], line["reason"]) == (200, "stream_idle_timeout")
    assert await gateway.metric('siger_local_replies_total{reason="stream_idle_timeout"}') == 1
    assert await gateway.metric('siger_upstream_connections{service="s",state="busy"}') == 0


async def test_a_response_that_trickles_outlives_every_timeout(
    serve: Serve, services: Services
) -> None:
    async def script(upstream: Upstream, served: Served) -> None:
        await served.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        enough = longer_than_the_timeout()
        while not enough():
            await served.send(b".")
            await gateway.get("/health/live")
        raise EOFError

    gateway = await serve(
        routed(
            (await services(script))[0].address,
            route=", timeout: 100ms, stream_idle_timeout: 1s",
        )
    )
    answer = await gateway.get("/")
    assert answer.status == 200
    assert set(answer.body) == {ord(".")}


async def test_a_client_that_does_not_read_is_not_the_silence_of_the_service(
    serve: Serve, services: Services
) -> None:
    size = 32 * MEBIBYTE

    async def script(upstream: Upstream, served: Served) -> None:
        await served.ok(bytes(size))

    gateway = await serve(
        routed((await services(script))[0].address, route=", stream_idle_timeout: 200ms")
    )
    async with gateway.connect() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        enough = longer_than_the_timeout()

        async def much_later() -> bool:
            return enough()

        await eventually(much_later)
        assert len((await client.answer()).body) == size


async def test_the_rules_for_idle_requests_do_not_touch_a_tunnel(
    serve: Serve, services: Services
) -> None:
    (upstream,) = await services(echo)
    limits = "limits: {header_timeout: 200ms, idle_timeout: 200ms}\n"
    gateway = await serve(routed(upstream.address, rest=limits, route=", timeout: 200ms"))
    async with gateway.connect() as client, gateway.connect() as idle:
        await opened(client)
        async with asyncio.timeout(BOUND):
            assert await idle.at_eof()  # the sweep has been there
        await client.send(b"x")
        assert await read_exactly(client, 1) == b"x"


async def test_events_are_passed_on_one_by_one(serve: Serve, services: Services) -> None:
    """Server-sent events: each is read before the service sends the next."""
    seen = asyncio.Queue[None]()

    async def script(upstream: Upstream, served: Served) -> None:
        await served.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        for number in range(20):
            event = b"id: %d\ndata: x\n\n" % number
            await served.send(b"%x\r\n%b\r\n" % (len(event), event))
            await seen.get()
        await served.send(b"0\r\n\r\n")

    gateway = await serve(routed((await services(script))[0].address))
    async with gateway.connect() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await client.head())[1]["content-type"] == "text/event-stream"
        for number in range(20):
            async with asyncio.timeout(BOUND):
                size = int(await client.reader.readuntil(b"\r\n"), 16)
                event = await client.reader.readexactly(size + 2)
            assert event == b"id: %d\ndata: x\n\n\r\n" % number
            seen.put_nowait(None)


# Shutdown.


async def test_a_drain_lets_tunnels_end_and_then_closes_them(
    serve: Serve, services: Services
) -> None:
    (upstream,) = await services(echo)
    gateway = await serve(routed(upstream.address, rest="drain_timeout: 1s\n"))
    async with gateway.connect() as brief, gateway.connect() as lasting:
        await opened(brief)
        await opened(lasting, ASK.replace(b"Host", b"X-Request-ID: last\r\nHost"))
        gateway.send(signal.SIGTERM)
        await gateway.line("draining")
        for client in (brief, lasting):
            await client.send(b"still here")
            assert await read_exactly(client, 10) == b"still here"
        brief.writer.write_eof()
        assert await brief.at_eof()
        assert await lasting.at_eof()
        assert await gateway.wait() == 0
    line = await gateway.access("last")
    assert (line["status"], line["reason"], line["bytes_in"]) == (101, "draining", 10)
