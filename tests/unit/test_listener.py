"""Who has to make room at the limit of connections, and who has overstayed: a listener whose clock
the test sets, and connections on transports that only remember what was done to them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from siger_gateway.http.connection import ServerLimits
from siger_gateway.http.headers import Headers
from siger_gateway.http.message import ProtocolError, Request
from siger_gateway.http.stream import DownstreamStream
from siger_gateway.http1.server import DownstreamConnection
from siger_gateway.listener.listener import AT_REST, MAX_TURNED_AWAY, SWEEP_INTERVAL, Listener

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"
HEADER_TIMEOUT = 10.0
IDLE_TIMEOUT = 75.0
RATE = 240


@dataclass
class Answers:
    """The handler, and the consumer of every request: answers when the test says so."""

    stream: DownstreamStream | None = None
    refused: list[str] = field(default_factory=list)

    def dispatch(self, request: Request, stream: DownstreamStream) -> Answers:
        self.stream = stream
        return self

    def start(self) -> None: ...

    def answer(self) -> None:
        assert self.stream is not None
        self.stream.send_head(204, [], b"", sized=True)
        self.stream.send_end([])

    def reject(self, error: ProtocolError, stream: DownstreamStream) -> None:
        self.refused.append(error.reason)
        stream.close_after_response()
        stream.send_head(503, [], b"", sized=True)
        stream.send_end([])

    def on_data(self, data: bytes) -> None: ...

    def on_end(self, trailers: Headers) -> None: ...

    def on_request_error(self, error: ProtocolError) -> None:
        self.refused.append(error.reason)

    def on_downstream_closed(self) -> None: ...

    def pause_response(self) -> None: ...

    def resume_response(self) -> None: ...


class Transport(asyncio.Transport):
    """Remembers, in a word, what the connection did to it."""

    def __init__(self) -> None:
        super().__init__()
        self.state = "open"

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def write(self, data: Any) -> None: ...

    def write_eof(self) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def is_closing(self) -> bool:
        return self.state != "open"

    def close(self) -> None:
        self.state = "closed"

    def abort(self) -> None:
        self.state = "aborted"


class Bench:
    """A listener and the connections that the test makes."""

    def __init__(self, connections: int) -> None:
        limits = ServerLimits(32768, 1 << 20, HEADER_TIMEOUT, IDLE_TIMEOUT, connections, 100, RATE)
        self.answers = Answers()
        self.listener = Listener(self.answers, limits)
        self.listener.now = 1000.0

    def accept(self, sends: bytes = b"") -> tuple[DownstreamConnection, Transport]:
        connection, transport = DownstreamConnection(self.listener), Transport()
        connection.connection_made(transport)
        if sends:
            connection.data_received(sends)
        return connection, transport

    def pass_time(self, seconds: float) -> None:
        """One sweep, at the end."""
        self.listener.check(self.listener.now + seconds)


async def test_a_newcomer_takes_the_place_of_the_connection_at_rest_for_longest() -> None:
    bench = Bench(3)
    first, second, third = bench.accept(), bench.accept(), bench.accept()
    bench.pass_time(1.0)
    first[0].data_received(GET)
    bench.answers.answer()
    bench.pass_time(1.0)
    third[0].data_received(GET)
    bench.answers.answer()
    bench.pass_time(2 * AT_REST)
    newcomers = []
    for expected in (
        ["open", "closed", "open"],
        ["closed", "closed", "open"],
        ["closed", "closed", "closed"],
    ):
        newcomers.append(bench.accept())
        assert [transport.state for _, transport in (first, second, third)] == expected
    assert not bench.answers.refused
    assert bench.listener.closed == {"made_room": 3}
    assert all(transport.state == "open" for _, transport in newcomers)


async def test_a_head_that_is_slow_to_come_makes_room() -> None:
    bench = Bench(1)
    _, transport = bench.accept(GET[:-2])
    bench.pass_time(2 * AT_REST)
    bench.accept()
    assert transport.state == "closed"


async def test_a_connection_makes_no_room_during_an_exchange_or_just_after_one() -> None:
    bench = Bench(2)
    busy, used = bench.accept(GET), bench.accept()
    bench.pass_time(2 * AT_REST)
    used[0].data_received(GET)
    bench.answers.answer()
    bench.pass_time(AT_REST / 2)
    bench.accept()
    assert (busy[1].state, used[1].state) == ("open", "open")
    assert bench.answers.refused == ["too_many_connections"]


async def test_a_connection_that_was_used_since_it_was_seen_at_rest_makes_no_room() -> None:
    bench = Bench(2)
    first, second = bench.accept(), bench.accept()
    bench.pass_time(2 * AT_REST)
    bench.accept()  # from here on it is known who rests
    rested = first if second[1].state == "closed" else second
    rested[0].data_received(GET)
    bench.accept()
    assert rested[1].state == "open"
    assert bench.answers.refused == ["too_many_connections"]


async def test_those_that_are_turned_away_take_nobodys_place() -> None:
    bench = Bench(1)
    busy, transport = bench.accept(GET)
    for _ in range(MAX_TURNED_AWAY + 5):
        bench.accept()
    assert bench.answers.refused == ["too_many_connections"] * MAX_TURNED_AWAY
    assert bench.listener.closed == {"turned_away": 5}
    assert transport.state == "open"
    busy.connection_lost(None)
    _, newcomer = bench.accept()
    assert newcomer.state == "open"
    assert len(bench.answers.refused) == MAX_TURNED_AWAY


async def test_idle_time_counts_from_the_end_of_the_last_exchange() -> None:
    bench = Bench(1)
    _, transport = bench.accept(GET)
    bench.pass_time(2 * IDLE_TIMEOUT)
    bench.answers.answer()
    bench.pass_time(IDLE_TIMEOUT)
    assert transport.state == "open"
    bench.pass_time(1.0)
    assert transport.state == "closed"
    assert bench.listener.closed == {"idle_timeout": 1}


async def test_idle_time_does_not_count_while_a_client_reads_slowly() -> None:
    bench = Bench(1)
    connection, transport = bench.accept(GET)
    connection.pause_writing()
    bench.answers.answer()
    bench.pass_time(IDLE_TIMEOUT)
    connection.resume_writing()
    bench.pass_time(1.0)
    assert transport.state == "open"
    bench.pass_time(IDLE_TIMEOUT)
    assert transport.state == "closed"


async def test_a_client_that_leaves_the_rest_of_a_response_unread_is_cut() -> None:
    bench = Bench(1)
    _, transport = bench.accept(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    bench.answers.answer()
    assert transport.state == "closed"  # which waits until everything has been sent
    bench.pass_time(IDLE_TIMEOUT)
    assert transport.state == "closed"
    bench.pass_time(2.0)
    assert transport.state == "aborted"
    assert bench.listener.closed == {"client_stalled": 1}


async def test_a_connection_is_never_closed_before_its_time() -> None:
    """What is as old as the last sweep may have happened just now."""
    bench = Bench(1)
    bench.listener.check(1000.0)
    _, transport = bench.accept()
    bench.listener.check(1000.0 + IDLE_TIMEOUT + SWEEP_INTERVAL)
    assert transport.state == "open"
    bench.listener.check(1000.1 + IDLE_TIMEOUT + SWEEP_INTERVAL)
    assert transport.state == "closed"


async def test_a_body_that_drips_is_refused() -> None:
    bench = Bench(1)
    connection, _ = bench.accept(POST)
    for _ in range(int(IDLE_TIMEOUT) + 2):  # what drips counts too
        assert not bench.answers.refused
        connection.data_received(b"drip")
        bench.pass_time(1.0)
    assert bench.answers.refused == ["request_timeout"]


async def test_a_body_may_pause_as_long_as_it_is_fast_enough_on_the_whole() -> None:
    bench = Bench(1)
    connection, _ = bench.accept(POST)
    for _ in range(20):
        for _ in range(int(IDLE_TIMEOUT) - 1):
            bench.pass_time(1.0)
        connection.data_received(bytes(RATE * int(IDLE_TIMEOUT)))
    assert not bench.answers.refused


async def test_a_body_that_nobody_reads_is_not_slow() -> None:
    bench = Bench(1)
    bench.accept(POST)
    assert bench.answers.stream is not None
    bench.answers.stream.pause_reading()
    for _ in range(3 * int(IDLE_TIMEOUT)):
        bench.pass_time(1.0)
    assert not bench.answers.refused


async def test_a_slow_body_does_not_count_against_the_next_one() -> None:
    bench = Bench(1)
    body = b"x" * 100
    sized = POST.replace(b"1000000", b"100")
    connection, _ = bench.accept()
    for _ in range(3):
        connection.data_received(sized)
        for _ in range(int(IDLE_TIMEOUT)):
            bench.pass_time(1.0)
        connection.data_received(body)
        bench.answers.answer()
    assert not bench.answers.refused
