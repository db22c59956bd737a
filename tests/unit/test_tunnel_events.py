"""What a tunnel does with its two connections, event by event.

The connections record what is asked of them: which of two ends is lost first, or that one cannot
be closed by halves, is not to be had from sockets at will.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from siger_gateway.http.stream import HandedOver
from siger_gateway.http.timeouts import TimeoutQueue
from siger_gateway.proxy.tunnel import Tunnel


class Connection:
    """A transport, and what becomes of it."""

    def __init__(self, *, half_closes: bool = True) -> None:
        self.did: list[Any] = []
        self.reading = False
        self.half_closes = half_closes
        self.closing = False
        self.owner_told: list[Exception | None] = []
        self.side: Any = None

    def handed_over(self, side: Any, early: bytes = b"") -> HandedOver:
        self.side = side
        return HandedOver(cast(asyncio.Transport, self), early, self.owner_told.append)

    def write(self, data: bytes) -> None:
        self.did.append(data)

    def can_write_eof(self) -> bool:
        return self.half_closes

    def write_eof(self) -> None:
        self.did.append("eof")

    def close(self) -> None:
        self.did.append("close")
        self.closing = True

    def abort(self) -> None:
        self.did.append("abort")
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_extra_info(self, name: str) -> None:
        return None


class Joined:
    """A tunnel between two such connections, and how it ended."""

    def __init__(
        self,
        client: Connection,
        service: Connection,
        *,
        early: bytes = b"",
        first: bytes = b"",
        idle: TimeoutQueue | None = None,
    ) -> None:
        self.ends: list[str] = []
        self.tunnel = Tunnel(idle, lambda _, reason: self.ends.append(reason))
        self.tunnel.begin(
            client.handed_over(self.tunnel.client, early),
            service.handed_over(self.tunnel.service, first),
        )


def joined(*, half_closes: bool = True) -> tuple[Any, Any, Joined]:
    client, service = Connection(half_closes=half_closes), Connection(half_closes=half_closes)
    return client, service, Joined(client, service)


def test_what_was_read_before_goes_first() -> None:
    client, service = Connection(), Connection()
    tunnel = Joined(client, service, early=b"early", first=b"first").tunnel
    client.side.data_received(b"later")
    assert (client.did, service.did) == ([b"first"], [b"early", b"later"])
    assert (client.reading, service.reading) == (True, True)
    assert (tunnel.client.sent, tunnel.service.sent) == (10, 5)


@pytest.mark.parametrize("slow", ["client", "service"])
def test_a_side_is_not_read_while_the_other_one_reads_slowly(slow: str) -> None:
    client, service, _ = joined()
    reader, sender = (client, service) if slow == "client" else (service, client)
    reader.side.pause_writing()
    assert (reader.reading, sender.reading) == (True, False)
    reader.side.resume_writing()
    assert (reader.reading, sender.reading) == (True, True)


@pytest.mark.parametrize("first", ["client", "service"])
def test_the_end_of_one_direction_is_passed_on_and_the_other_goes_on(first: str) -> None:
    client, service, how = joined()
    one, other = (client, service) if first == "client" else (service, client)
    assert one.side.eof_received() is True
    assert other.did == ["eof"]
    other.side.data_received(b"answer")
    assert one.did == [b"answer"]
    one.side.pause_writing()
    one.side.resume_writing()
    other.side.pause_writing()
    one.reading = False
    other.side.resume_writing()
    assert not one.reading  # it has ended: reading again would find the same end again
    assert other.side.eof_received() is False  # closes itself
    assert one.did == [b"answer", "close"]
    assert how.ends == []
    one.side.connection_lost(None)
    assert how.ends == []
    other.side.connection_lost(None)
    assert how.ends == [""]
    assert (one.owner_told, other.owner_told) == ([None], [None])


@pytest.mark.parametrize("first", ["client", "service"])
def test_where_there_is_no_half_close_the_end_of_one_direction_is_that_of_both(
    first: str,
) -> None:
    client, service, how = joined(half_closes=False)
    one, other = (client, service) if first == "client" else (service, client)
    assert one.side.eof_received() is False
    assert other.did == ["close"]
    other.side.connection_lost(None)
    one.side.connection_lost(None)
    assert how.ends == [""]


@pytest.mark.parametrize(
    ("broken", "error", "reason"),
    [
        ("client", ConnectionResetError("reset"), "downstream_closed"),
        ("client", None, "draining"),
        ("service", ConnectionResetError("reset"), "upstream_reset"),
    ],
)
def test_a_connection_that_breaks_takes_the_other_one_with_it(
    broken: str, error: Exception | None, reason: str
) -> None:
    client, service, how = joined()
    one, other = (client, service) if broken == "client" else (service, client)
    one.side.connection_lost(error)
    assert other.did == ["abort"]
    assert how.ends == []
    other.side.connection_lost(None)
    assert how.ends == [reason]


def test_a_reset_after_half_a_conversation_is_still_one() -> None:
    client, service, how = joined()
    client.side.eof_received()
    service.side.connection_lost(ConnectionResetError())
    assert client.did == ["abort"]
    client.side.connection_lost(None)
    assert how.ends == ["upstream_reset"]


def test_a_reset_when_both_have_said_all_is_no_fault() -> None:
    """Clients that close a WebSocket often reset it, having not read the last frame."""
    client, service, how = joined()
    service.side.eof_received()
    client.side.eof_received()
    client.side.connection_lost(ConnectionResetError())
    assert "abort" not in service.did
    service.side.connection_lost(None)
    assert how.ends == [""]


def test_silence_in_both_directions_resets_both_once() -> None:
    client, service = Connection(), Connection()
    queue = TimeoutQueue(1.0, 0.0)
    how = Joined(client, service, idle=queue)
    moves = [
        lambda: client.side.data_received(b"x"),
        lambda: service.side.data_received(b"x"),
        lambda: client.side.resume_writing(),  # a client that reads slowly does read
    ]
    now = 0.0
    for move in moves:
        now += 0.9
        queue.expire(now)
        move()
    queue.expire(now + 0.9)
    assert (client.closing, service.closing) == (False, False)
    queue.expire(now + 1.2)
    assert (client.did[-1], service.did[-1]) == ("abort", "abort")
    client.side.connection_lost(None)
    service.side.connection_lost(None)
    assert how.ends == ["stream_idle_timeout"]
    assert len(queue) == 0
