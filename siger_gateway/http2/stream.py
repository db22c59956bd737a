"""One stream of either side: its windows, and what of its DATA waits for one.

``server_stream`` and ``client_stream`` say what a stream is to an exchange.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from siger_gateway.http.headers import Headers
from siger_gateway.http2 import frames
from siger_gateway.http2.faults import CANCEL
from siger_gateway.http2.frames import DEFAULT_WINDOW

if TYPE_CHECKING:
    from siger_gateway.http2.connection import Connection

STREAM_WINDOW: Final = DEFAULT_WINDOW
"""Bytes that a stream may send before anybody has taken one."""
OPENED_WINDOW: Final = 512 * 1024
"""The same once its consumer has: one that is read can be quick, and costs no memory."""


class Stream:
    """One stream's windows, and what of its DATA waits for one."""

    __slots__ = (
        "_connection",
        "_trailers",
        "_waiting",
        "id",
        "receive_window",
        "send_window",
        "taken",
    )

    def __init__(self, connection: Connection, stream_id: int) -> None:
        self._connection = connection
        self.id = stream_id
        self.send_window = connection.peer_window
        self.receive_window = STREAM_WINDOW
        self.taken = 0
        """Bytes that came and have been taken, for which the peer has no credit yet."""
        self._waiting: deque[memoryview] | None = None
        self._trailers: Headers | None = None  # with which it ends behind what waits

    # Out.

    def put_data(self, data: bytes) -> None:
        """Sends ``data``, or what the windows allow of it; what is left waits."""
        connection, size = self._connection, len(data)
        if (
            self._waiting is None
            and size <= self.send_window
            and size <= connection.send_window
            and not connection.stalled
        ):
            self.send_window -= size
            connection.send_window -= size
            most = connection.peer_frame_size
            if size <= most:
                connection.data_frames += 1
                connection.write(frames.data_frame(self.id, data, False))
            else:
                connection.data_frames += 1 + size // most
                connection.write(frames.data_frames(self.id, data, False, most))
            return
        if self._waiting is None:
            self._waiting = deque()
            self.on_wait()
        self._waiting.append(memoryview(data))
        connection.turns[self] = None
        connection.take_turns()

    def put_end(self, trailers: Headers) -> None:
        """Ends the stream, behind all that waits."""
        if self._waiting is not None:
            self._trailers = trailers
            return
        connection = self._connection
        if trailers:
            connection.write(connection.headers_frames(self.id, trailers, True))
        else:
            connection.write(frames.data_frame(self.id, b"", True))
        self.on_sent()

    def take_turn(self) -> bool:
        """Sends one frame of what waits; whether there is more that could be sent."""
        connection, waiting = self._connection, self._waiting
        if waiting is None:
            return False
        data = waiting[0]
        size = min(len(data), self.send_window, connection.send_window, connection.peer_frame_size)
        if size <= 0:
            return False
        if size == len(data):
            waiting.popleft()
        else:
            waiting[0] = data[size:]
            data = data[:size]
        self.send_window -= size
        connection.send_window -= size
        connection.data_frames += 1
        connection.write(frames.data_frames(self.id, data, False, size))
        if waiting:
            return self.send_window > 0
        self._waiting = None
        if self._trailers is not None:
            self.put_end(self._trailers)
        else:
            self.on_room()
        return False

    def put_last(self) -> None:
        """Ends our side without trailers."""
        self.put_end([])

    def leave(self) -> None:
        """Both sides have ended."""
        self._connection.forget(self.id)

    def give_up(self) -> None:
        """Resets the stream, if it is not over yet."""
        if self._connection.streams.get(self.id) is self:
            self._connection.forget_reset(self.id, CANCEL)

    @property
    def is_waiting(self) -> bool:
        return self._waiting is not None

    def drop_waiting(self) -> None:
        """The stream is over: what waits is not sent any more."""
        self._waiting = None
        self._connection.turns.pop(self, None)

    def on_wait(self) -> None:
        """The source has to be paused."""

    def on_room(self) -> None:
        """Nothing waits any more."""

    def on_sent(self) -> None:
        """The frame that ends our side is on its way."""

    # In.

    def credit(self) -> None:
        """Lets the peer send as much again as has been taken, once it is worth a frame."""
        if self.taken * 2 >= STREAM_WINDOW:
            increment = self.taken
            if self.receive_window + increment < OPENED_WINDOW:
                increment = OPENED_WINDOW - self.receive_window
            self.taken = 0
            self.receive_window += increment
            self._connection.write(frames.window_update(self.id, increment))

    def on_headers(self, headers: Headers, *, ends: bool) -> None:
        """A header block for a stream that there is."""

    def on_data(self, data: bytes, size: int, *, ends: bool) -> None:
        """``data``, which counted ``size`` bytes with its padding."""

    def on_reset(self, code: int) -> None:
        """The peer has given up the stream, which is none any more."""

    def has_waited(self) -> bool:
        """Whether the peer has waited so long in vain that it may well give the stream up."""
        return False

    def on_lost(self, detail: str) -> None:
        """The connection has ended, and the stream with it."""
