"""Attacks that HTTP/2 makes cheap, and what they cost the gateway: a bounded amount, then GOAWAY.

CVE-2019-9511 to 9518 (floods), CVE-2023-44487 (rapid reset), CVE-2024-27316 and its kin
(CONTINUATION), CVE-2016-1546 (slow reading), CVE-2025-8671 (resets that a server is made to send).
"""

from __future__ import annotations

import tracemalloc
from itertools import count

import pytest

from siger_gateway.http2.connection import WRITE_HIGH_WATER
from siger_gateway.http2.faults import ENHANCE_YOUR_CALM
from siger_gateway.http2.flood import EMPTY, NOISE, RESETS, WINDOWS
from siger_gateway.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PADDED,
    PING,
    SETTINGS,
)
from siger_gateway.http2.server import MAX_STREAMS
from siger_gateway.http2.stream import OPENED_WINDOW
from tests.protocol.http2_peer import (
    HELLO,
    block,
    data,
    frame,
    get,
    goaway,
    head,
    post,
    priority,
    request,
    reset,
    settings,
    window,
)
from tests.protocol.wired2 import Client2, Wired2

OPEN = post(1, b"/wait")
LONGER = (b"content-length", b"1")
RESETS_EACH = {
    "rapid reset": lambda stream: get(stream, b"/wait") + reset(stream),
    "rapid reset of uploads": lambda stream: post(stream, b"/h2") + reset(stream),
    "malformed requests": lambda stream: get(stream, b" "),
    "Content-Length that is wrong": lambda stream: (
        post(stream, b"/wait", LONGER) + data(stream, b"xx")
    ),
    "trailers that are none": lambda stream: post(stream, b"/wait") + post(stream),
    "WINDOW_UPDATE by 0": lambda stream: get(stream, b"/wait") + window(stream, 0),
    "a window that overflows": lambda stream: get(stream, b"/wait") + window(stream, 2**31 - 1),
    "DATA behind the end": lambda stream: get(stream, b"/wait") + data(stream, b"x"),
    "HEADERS behind the end": lambda stream: get(stream, b"/wait") + get(stream),
    "PRIORITY on itself": lambda stream: get(stream, b"/wait") + priority(stream, stream),
}
FRAMES_EACH = {
    "PING": (WINDOWS, frame(PING, 0, 0, bytes(8))),
    "acknowledged PINGs": (NOISE, frame(PING, ACK, 0, bytes(8))),
    "SETTINGS": (NOISE, settings()),
    "acknowledged SETTINGS": (NOISE, frame(SETTINGS, ACK, 0)),
    "PRIORITY": (NOISE, priority(1)),
    "PRIORITY of idle streams": (NOISE, priority(1001)),
    "GOAWAY": (NOISE, goaway()),
    "unknown frames": (NOISE, frame(0x42, 0, 0, b"x")),
    "RST_STREAM of a stream that is over": (NOISE, reset(3)),
    "DATA of a stream that was reset": (NOISE, data(5, b"x")),
    "empty DATA": (EMPTY, data(1)),
    "DATA of padding": (EMPTY, frame(DATA, PADDED, 1, bytes([8]) + bytes(8))),
    "WINDOW_UPDATE": (WINDOWS, window(0, 1)),
    "WINDOW_UPDATE of a stream": (WINDOWS, window(1, 1)),
    "WINDOW_UPDATE of a stream that is over": (WINDOWS, window(3, 1)),
}


def sent_away(client: Client2) -> bool:
    codes = [code for _, code in client.read().goaways]
    assert codes in ([], [ENHANCE_YOUR_CALM])
    return bool(codes)


def check_calmed(wired: Wired2, client: Client2) -> None:
    assert sent_away(client)
    assert client.transport.half_closed
    assert not client.connection.streams
    assert wired.closed == {"http2_enhance_your_calm": 1}
    assert wired.metrics.in_flight == 0
    client.lose()


@pytest.mark.parametrize("attack", RESETS_EACH)
async def test_streams_that_end_in_resets_end_the_connection(attack: str) -> None:
    wired = Wired2()
    client = wired.client()
    client.send(HELLO)
    for number in count():
        client.feed(RESETS_EACH[attack](2 * number + 1))
        if number % 100 == 0 and sent_away(client):
            break
    assert RESETS <= number <= RESETS + 100
    assert len(client.connection.streams) <= MAX_STREAMS
    assert not any(one.streams for service in wired.dialer.made for one in [service.connection])
    check_calmed(wired, client)


async def test_calls_whose_deadlines_come_are_no_attack() -> None:
    """A slow service, and a proxy in front that has many clients on one connection."""
    wired = Wired2()
    client = wired.client()
    client.send(HELLO)
    streams = count(1, 2)
    for second in range(20):
        wired.listener.now = 1000.0 + 2 * second
        calls = [next(streams) for _ in range(MAX_STREAMS)]
        client.send(*[get(stream, b"/wait") for stream in calls])
        wired.listener.now += 1.0
        client.send(*[reset(stream) for stream in calls])
    assert not client.read().goaways
    client.lose()


async def test_streams_above_the_limit_end_the_connection() -> None:
    wired = Wired2()
    client = wired.client()
    client.send(HELLO)
    for number in count():
        client.feed(get(2 * number + 1, b"/wait"))
        if number % 100 == 0 and sent_away(client):
            break
    assert number <= RESETS + MAX_STREAMS + 100
    assert len(wired.one.made) == MAX_STREAMS
    check_calmed(wired, client)


@pytest.mark.parametrize("attack", FRAMES_EACH)
async def test_frames_that_ask_for_nothing_end_the_connection(attack: str) -> None:
    burst, one = FRAMES_EACH[attack]
    wired = Wired2()
    client = wired.client()
    client.send(HELLO, OPEN, get(3), get(5, b" "))
    for number in range(int(burst) + 20):
        client.feed(one)
        if number < burst - 20:
            assert not client.transport.half_closed, f"after {number} of them"
    check_calmed(wired, client)


async def test_a_client_may_ping_for_each_answer_that_it_gets() -> None:
    """As gRPC in Go and Java does, to find out how large its windows should be; with the windows
    that are due, too."""
    wired = Wired2()
    client = wired.client()
    client.send(HELLO)
    for stream in range(1, 8001, 2):
        windows = window(0, 2) + window(stream, 2)
        client.send(get(stream), windows + frame(PING, 0, 0, bytes(8)))
    log = client.read()
    assert not log.goaways
    assert len(log.pongs) == 4000
    client.lose()


async def test_settings_that_say_the_same_thousands_of_times_end_the_connection() -> None:
    """CVE-2020-11080: each would be applied to every stream."""
    wired = Wired2()
    client = wired.client()
    client.send(HELLO, *[get(stream, b"/wait") for stream in range(1, 201, 2)])
    client.send(settings(*[(4, 100), (4, 200)] * 16))
    assert not client.transport.ended
    client.send(settings(*[(4, 100), (4, 200)] * 17))
    check_calmed(wired, client)


async def test_a_quiet_second_lets_a_client_say_more() -> None:
    wired = Wired2()
    client = wired.client()
    client.send(HELLO)
    for second in range(100):
        wired.listener.now = 1000.0 + second
        client.feed(frame(PING, 0, 0, bytes(8)) * 90)
    assert not client.transport.ended
    client.lose()


@pytest.mark.parametrize("size", [0, 1, 16384])
async def test_a_header_block_without_end_ends_the_connection(size: int) -> None:
    wired = Wired2()
    client = wired.client()
    client.send(HELLO, frame(HEADERS, END_STREAM, 1, b""))
    piece = frame(CONTINUATION, 0, 1, bytes(size))
    tracemalloc.start()
    for _ in range(20_000):
        client.feed(piece)
        if client.transport.half_closed:
            break
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4_000_000
    check_calmed(wired, client)


async def test_a_small_block_that_means_much_is_refused_without_its_memory() -> None:
    """An HPACK bomb: a field of 4,000 bytes in the table, named thousands of times."""
    wired = Wired2()
    client = wired.client()
    client.send(HELLO)
    bomb = b"\x40\x01a\x7f\xa1\x1e" + 4000 * b"x"
    client.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, block(request()) + bomb))
    tracemalloc.start()
    for stream in range(3, 43, 2):
        many = block(request()) + b"\xbe" * 16000
        client.feed(frame(HEADERS, END_STREAM | END_HEADERS, stream, many))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000
    assert {client.read().status(stream) for stream in range(3, 43, 2)} == {431}
    client.lose()


async def test_a_client_that_never_reads_costs_bounded_memory_and_is_dropped() -> None:
    """It opens all windows, asks for all that it may, and reads nothing."""
    wired = Wired2()
    client = wired.client(high=WRITE_HIGH_WATER)
    client.feed(HELLO + settings((4, 2**31 - 1)) + window(0, 2**31 - 65536))
    for stream in range(1, 2 * MAX_STREAMS, 2):
        client.feed(get(stream, b"/h2"))
    assert client.transport.reading
    service = wired.dialer.made[0]
    ids = sorted(service.log_from().heads)
    assert len(ids) == 100
    allowed = dict.fromkeys(ids, 65535)
    for stream in ids:
        service.send(head(stream, [(b":status", b"200")], ends=False))
    total = 0
    for _ in range(100):
        for stream in ids:
            if allowed[stream] + service.log.windows.get(stream, 0) >= 16384:
                service.send(data(stream, bytes(16384)))
                allowed[stream] -= 16384
                total += 16384
    assert not client.transport.reading, "nor is it read"
    waiting = sum(
        len(piece)
        for stream in client.connection.streams.values()
        for piece in stream._waiting or ()
    )
    assert total <= WRITE_HIGH_WATER + len(ids) * 65535 + 10 * OPENED_WINDOW
    assert len(client.transport.written) < WRITE_HIGH_WATER + 100 * 16384
    assert waiting + len(client.transport.written) >= total
    wired.check(1077.0)
    assert client.transport.aborted
    assert wired.closed == {"client_stalled": 1}
    assert wired.metrics.in_flight == 0
    client.lose()


async def test_a_client_that_reads_nothing_is_not_answered_without_bound() -> None:
    """Each small request makes a larger answer: reading stops with the socket."""
    wired = Wired2()
    client = wired.client(high=WRITE_HIGH_WATER)
    client.feed(HELLO + window(0, 2**31 - 65536))
    for number in range(100_000):
        if not client.transport.reading:
            break
        client.feed(get(2 * number + 1, b"/../.."))
    assert not client.transport.reading
    assert len(client.transport.written) < WRITE_HIGH_WATER + 2000
    client.read()
    assert client.transport.reading
    client.lose()


async def test_invented_methods_make_no_series_of_the_metrics() -> None:
    wired = Wired2()
    client = wired.client()
    client.send(HELLO)
    for number in range(100):
        client.send(head(2 * number + 1, request(method=b"X%d" % number)))
    assert len(wired.metrics.routes["-"].requests) == 1
    client.lose()


async def test_a_service_that_floods_is_bounded_too() -> None:
    wired = Wired2()
    client = wired.client()
    client.send(HELLO, get(1, b"/h2"))
    service = wired.service
    flood = settings() * 1000
    for _ in range(110):
        service.send(flood)
    assert [code for _, code in service.log.goaways] == [ENHANCE_YOUR_CALM]
    assert client.read().status(1) == 502
    client.lose()
