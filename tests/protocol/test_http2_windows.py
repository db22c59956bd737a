"""Flow control of HTTP/2, both ways (RFC 9113 sections 5.2 and 6.9), and whose turn it is."""

from __future__ import annotations

from itertools import pairwise

from siger_gateway.http2.connection import CONNECTION_WINDOW
from siger_gateway.http2.frames import DATA, HEADERS
from siger_gateway.http2.stream import OPENED_WINDOW, STREAM_WINDOW
from tests.header_blocks import literal
from tests.protocol.http2_peer import (
    HELLO,
    Log,
    block,
    data,
    frame,
    get,
    head,
    post,
    request,
    reset,
    settings,
    window,
)
from tests.protocol.wired2 import BIG, Client2, Wired2

OK = [(b":status", b"200")]
WIDE = 2**31 - 1 - 65535
"""Opens the connection's window as far as it goes."""


def opened(*pairs: tuple[int, int], high: int = 1 << 60) -> Client2:
    """A client that has said hello, and these settings."""
    client = Wired2().client(high)
    client.send(HELLO, *([settings(*pairs)] if pairs else []))
    return client


def order(log: Log) -> list[int]:
    """The streams of DATA frames, in their order."""
    return [stream for kind, _, stream, payload in log.frames if kind == DATA and payload]


async def test_a_response_is_sent_as_far_as_both_windows_let_it() -> None:
    client = opened((4, 1000))
    log = client.send(get(1, b"/big"))
    assert log.bodies[1] == BIG[:1000]
    assert client.send(window(1, 1)).bodies[1] == BIG[:1001]
    assert client.send(window(0, 100_000)).bodies[1] == BIG[:1001], "it is the stream's that lacks"
    client.send(window(1, 100_000))
    assert len(log.bodies[1]) == 101_001
    client.send(window(1, 1_000_000))
    assert len(log.bodies[1]) == 165_535, "now it is the connection's"
    client.send(window(0, 1_000_000))
    assert log.bodies[1] == BIG
    assert 1 in log.ended
    client.lose()


async def test_a_window_that_settings_make_negative_has_to_be_filled_up_first() -> None:
    client = opened((4, 1000))
    log = client.send(get(1, b"/big"), settings((4, 200)))
    client.send(window(1, 799))
    client.send(window(1, 1))
    assert len(log.bodies[1]) == 1000, "its window is 0"
    client.send(window(1, 5))
    assert len(log.bodies[1]) == 1005
    client.send(settings((4, 300)))
    assert len(log.bodies[1]) == 1105, "SETTINGS that widen it send what waits"
    client.lose()


async def test_windows_of_zero_hold_back_data_but_not_heads() -> None:
    client = opened((4, 0))
    log = client.send(get(1), get(3, b"/none"), get(5, b"/chunks"))
    assert [log.status(one) for one in (1, 3, 5)] == [200, 204, 200]
    assert log.ended == {3}
    assert not log.bodies
    client.send(window(5, 10))
    assert (log.bodies[5], log.trailers(5)) == (b"ok", [(b"x-sum", b"1")])
    client.send(window(1, 1), window(1, 1))
    assert log.bodies[1] == b"ok"
    assert log.ended == {1, 3, 5}
    client.lose()


async def test_trailers_wait_behind_data_and_speak_the_table_of_their_time() -> None:
    """RFC 7541 section 4.2: a peer that makes its table smaller is told at the next block, also if
    that has been waiting since before."""
    client = opened((4, 0))
    log = client.send(get(1, b"/chunks"), settings((1, 0)))
    log._decoder.max_allowed_table_size = 0
    client.send(window(1, 2), get(3))
    assert log.trailers(1) == [(b"x-sum", b"1")]
    assert log.status(3) == 200
    client.lose()


async def test_that_the_table_is_not_used_is_said_once() -> None:
    client = opened((1, 0), (1, 4096), (1, 100))
    client.send(settings((1, 0)))
    log = client.log
    log._decoder.max_allowed_table_size = 0
    client.send(get(1), get(3))
    blocks = [payload for kind, _, _, payload in log.frames if kind == 1]
    assert [block[:1] == b"\x20" for block in blocks] == [True, False]
    client.lose()


async def test_what_came_as_never_indexed_goes_on_so_both_ways() -> None:
    """RFC 7541 section 7.1.3; twice, as blocks that come again are remembered."""
    wired = Wired2()
    client = wired.client()
    client.send(HELLO)
    secret = literal(b"x-secret", b"s", 0x10)
    for stream in (1, 3, 5, 7):
        client.send(frame(HEADERS, 5, stream, block(request(b"/h2")) + secret))
        service = wired.service
        asked = [payload for kind, _, _, payload in service.log_from().frames if kind == HEADERS]
        assert len(asked) == stream // 2 + 1
        assert secret in asked[-1]
        service.send(frame(HEADERS, 5, stream, b"\x88" + literal(b"x-mine", b"m", 0x10)))
        answers = [payload for kind, _, _, payload in client.read().frames if kind == HEADERS]
        assert literal(b"x-mine", b"m", 0x10) in answers[-1]
    client.lose()


async def test_streams_that_wait_take_turns_frame_by_frame() -> None:
    client = opened((4, WIDE))
    for stream in (1, 3, 5):
        client.send(get(stream, b"/big"))
    log = client.log
    assert order(log) == [1] * 4, "the connection's window is used up"
    log.frames.clear()
    client.send(window(0, 9 * 16384))
    turns = order(log)
    assert len(turns) >= 9
    assert all(one != other for one, other in pairwise(turns)), turns
    client.send(window(0, WIDE - 9 * 16384))
    assert all(log.bodies[stream] == BIG for stream in (1, 3, 5))
    client.lose()


async def test_a_stream_without_window_holds_up_no_other() -> None:
    client = opened((4, 100), (4, 100))
    log = client.send(get(1, b"/big"), window(0, WIDE))
    client.send(settings((4, 1_000_000)))
    assert log.bodies[1] == BIG
    client.send(settings((4, 10)), get(3, b"/big"), get(5))
    assert (len(log.bodies[3]), log.bodies[5]) == (10, b"ok")
    client.lose()


async def test_a_reset_stream_leaves_the_connections_window_to_others() -> None:
    client = opened((4, WIDE))
    log = client.send(get(1, b"/big"), get(3, b"/big"), reset(1))
    client.send(window(0, 1_000_000))
    assert len(log.bodies[3]) == 1_000_000
    assert not client.connection.turns
    client.lose()


async def test_a_client_may_open_both_windows_for_each_frame_of_a_large_response() -> None:
    """As libraries do that have no idea of more: that is no flood."""
    client = opened((4, WIDE))
    client.send(window(0, WIDE))
    wired = client.wired
    wired.dialer.opening = settings((4, WIDE))
    log = client.send(get(1, b"/h2"))
    service = wired.service
    service.send(head(1, OK, ends=False))
    stream = client.connection.streams[1]
    for _ in range(500):  # pieces of 256 KiB, as uvloop reads them
        log.frames.clear()
        stream.send_data(bytes(262_144))  # type: ignore[attr-defined]
        client.read()
        log.bodies.clear()
        updates = [window(0, 16384) + window(1, 16384)] * len(order(log))
        client.feed(b"".join(updates))
        assert not client.transport.ended
    client.lose()


async def test_frames_are_as_large_as_the_client_takes_them() -> None:
    client = opened((4, WIDE), (5, 20_000))
    client.send(window(0, WIDE))
    log = client.send(get(1, b"/big"))
    sizes = {len(payload) for kind, _, _, payload in log.frames if kind == DATA}
    assert max(sizes) == 20_000
    assert log.bodies[1] == BIG
    client.lose()


# What comes.


async def test_an_upload_of_any_size_is_given_windows_as_it_is_taken() -> None:
    wired = Wired2(body=100_000_000)
    client = wired.client()
    log = client.send(HELLO, post(1))
    sent = {0: CONNECTION_WINDOW, 1: STREAM_WINDOW}
    for _ in range(1000):
        client.send(data(1, bytes(16384)))
        sent[0] -= 16384
        sent[1] -= 16384
        assert sent[0] + log.windows[0] - (CONNECTION_WINDOW - 65535) >= 16384
        assert sent[1] + log.windows.get(1, 0) >= 16384
    client.send(data(1, ends=True))
    assert log.status(1) == 200
    client.lose()


async def test_an_upload_that_the_service_does_not_take_stops_at_its_window() -> None:
    wired = Wired2(body=100_000_000)
    client = wired.client()
    log = client.send(HELLO, head(1, request(b"/h2", method=b"POST"), ends=False))
    total = 0
    while STREAM_WINDOW + log.windows.get(1, 0) - total >= 16384:
        client.send(data(1, bytes(16384)))
        total += 16384
    taken = wired.service.log_from().bodies[1]
    assert len(taken) == 65535, "the service's window"
    assert total <= len(taken) + OPENED_WINDOW
    # Another stream of the same client goes on.
    client.send(post(3), data(3, b"x", ends=True))
    assert log.status(3) == 200
    wired.service.send(window(0, 1 << 20), window(1, 1 << 20))
    assert len(wired.service.log.bodies[1]) == total
    client.read()
    assert STREAM_WINDOW + log.windows[1] - total >= 16384, "and there is room again"
    client.lose()


async def test_a_slow_client_stops_the_service_and_no_other_stream() -> None:
    wired = Wired2()
    client = wired.client()
    client.send(HELLO, settings((4, 10)), get(1, b"/h2"))
    service = wired.service
    service.send(head(1, OK, ends=False))
    total = 0
    while STREAM_WINDOW + service.log.windows.get(1, 0) - total >= 16384:
        service.send(data(1, bytes(16384)))
        total += 16384
    assert total <= STREAM_WINDOW, "nobody has taken a byte more than the first frame"
    client.send(get(3, b"/h2"))
    service.log_from()
    service.send(head(3, OK, ends=False), data(3, b"hi", ends=True))
    assert client.read().bodies[3] == b"hi"
    client.send(window(1, 1 << 20))
    assert len(client.log.bodies[1]) == min(total, 65535 - 2)
    service.log_from()
    assert STREAM_WINDOW + service.log.windows.get(1, 0) - total >= 16384
    client.lose()


async def test_data_for_streams_that_are_over_counts_for_the_connections_window() -> None:
    """RFC 9113 section 6.9: or it would be smaller for ever."""
    wired = Wired2()
    client = wired.client()
    log = client.send(HELLO, post(1, b"/early"))
    before = log.windows[0]
    for _ in range(CONNECTION_WINDOW // 16384 // 2):
        client.send(data(1, bytes(16384)))
    assert log.windows[0] - before >= CONNECTION_WINDOW // 2
    assert not client.transport.ended
    client.lose()
