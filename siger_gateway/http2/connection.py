"""What both ends of an HTTP/2 connection do alike: frames in, settings, windows, DATA out.

``server`` and ``client`` say what a header block means and who is told of a body. Here are

    in     bytes -> frames -> one method for each type; a ``StreamFault`` resets its stream, a
           ``ConnectionFault`` ends the connection with a GOAWAY that says why
    out    control frames and heads at once. DATA as far as the windows and the socket take it; what
           does not fit waits in its stream, whose source is paused, and the streams that wait take
           turns, frame by frame, when there is room again

Windows for what comes in: the connection's is refilled as bytes arrive, a stream's when its
consumer has taken them. So a paused stream holds up no other, and memory is bounded by the
streams' windows.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from siger_gateway.http.headers import Headers
from siger_gateway.http2 import frames
from siger_gateway.http2.faults import (
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    PROTOCOL_ERROR,
    STREAM_CLOSED,
    ConnectionFault,
    StreamFault,
)
from siger_gateway.http2.flood import WINDOWS_PER_DATA, Budgets
from siger_gateway.http2.frames import (
    CONTINUATION,
    DATA,
    DEFAULT_MAX_FRAME_SIZE,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    LARGEST_WINDOW,
    PADDED,
    PRIORITY_FIELDS,
    Frame,
    FrameReader,
)
from siger_gateway.http2.hpack_decoder import DEFAULT_TABLE_SIZE, HeaderDecoder
from siger_gateway.http2.hpack_encoder import HeaderEncoder
from siger_gateway.http2.messages import NOT_SENT
from siger_gateway.http2.run_queue import run_queue
from siger_gateway.http2.stream import Stream

CONNECTION_WINDOW: Final = 1024 * 1024
"""Bytes that all streams of a connection may have on their way to us."""
WRITE_HIGH_WATER: Final = 256 * 1024
"""Bytes waiting for a slow peer at which it is neither sent more nor read: one read of uvloop."""
REMEMBERED_RESETS: Final = 256
"""Streams reset by us of which frames may still be on their way; they are dropped unseen."""

EMPTY_TABLE: Final = b"\x20"
"""At the beginning of a header block: the dynamic table has size 0 (RFC 7541 section 6.3)."""
_UP_TO_FLAGS: Final = 5
"""Bytes of a frame by which SETTINGS can be told from all others."""

REQUESTS: Final = HeaderEncoder(NOT_SENT)
RESPONSES: Final = HeaderEncoder()
"""The same bytes on every connection."""


class Connection(asyncio.Protocol):
    """One end of a connection.

    :param now: seconds.
    :param block_limit: bytes of a header block as it is sent.
    :param list_limit: the same decoded, 32 for each field included.
    :param count_limit: its fields.
    :param encoder: of what is sent, ``REQUESTS`` or ``RESPONSES``; what comes is the other.
    :param trust: how many times as much is taken of what costs the peer nothing (see ``flood``).
    """

    # More attributes than dictionaries of instances share keys for (30): without slots, reading
    # them and calling methods took 3 % more of a call.
    __slots__ = (
        "_arrived",
        "_block",
        "_block_ends",
        "_block_limit",
        "_block_size",
        "_block_stream",
        "_count_limit",
        "_decoder",
        "_early",
        "_encoder",
        "_greeted",
        "_list_limit",
        "_out",
        "_out_size",
        "_queue",
        "_reader",
        "_reading",
        "_reset",
        "_settings_acknowledged",
        "_settings_seen",
        "_table_unused",
        "_table_used",
        "_unseen",
        "_waiting",
        "budgets",
        "data_frames",
        "ending",
        "in_turns",
        "now",
        "peer_frame_size",
        "peer_window",
        "send_window",
        "stalled",
        "streams",
        "transport",
        "turns",
    )

    preface = b""
    """What the peer says before its SETTINGS."""

    def __init__(
        self,
        now: float,
        encoder: HeaderEncoder,
        block_limit: int,
        list_limit: int,
        count_limit: int,
        trust: float,
    ) -> None:
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)  # until connection_made
        self.streams: dict[int, Stream] = {}
        self.turns: dict[Stream, None] = {}
        """Streams with DATA that waits, in the order of their turns."""
        self.send_window = DEFAULT_WINDOW
        self.peer_window = DEFAULT_WINDOW
        self.peer_frame_size = DEFAULT_MAX_FRAME_SIZE
        self.stalled = False
        """The socket takes no more for now."""
        self.ending = False
        """No frame is looked at any more."""
        self.in_turns = True
        """What comes may wait while HTTP/1.1 is served, for it is of HTTP/2's clients."""
        self._queue = run_queue()
        self._unseen: list[Frame] = []
        self._waiting = 0  # reads that have not been looked at, or not at all frames
        self._reading = False  # what is written meanwhile is sent at the end of it
        self._out: list[bytes] = []
        self._out_size = 0
        self.now = now
        self.budgets = Budgets(now, trust)
        self.data_frames = 0
        """That have been sent, and have not yet earned the peer what they let it send."""
        self._reader = FrameReader()
        self._encoder = encoder
        passed_on_by = RESPONSES if encoder is REQUESTS else REQUESTS
        self._decoder = HeaderDecoder(never_index=passed_on_by.never_index)
        self._list_limit = list_limit
        self._count_limit = count_limit
        self._block_limit = block_limit
        self._block: list[bytes] = []
        self._block_size = 0
        self._block_stream = 0  # of the header block under way
        self._block_ends = False
        self._arrived = 0  # bytes of DATA that the connection's window lacks
        self._reset: dict[int, None] = {}
        self._early = b""  # what has come before it is certain that this is HTTP/2
        self._greeted = False
        self._table_used = True  # by our header blocks, as far as the peer knows
        self._table_unused = False  # which the next one has to say
        self._settings_seen = False
        self._settings_acknowledged = False

    # The transport's side.

    def data_received(self, data: bytes) -> None:
        if self.ending:
            return
        if not self._greeted:
            data = self._take_greeting(data)
            if not data:
                return
        queue = self._queue
        if (queue.yields and self.in_turns) or self._waiting:
            self._waiting += 1
            queue.add(self, data)
            return
        self._reading = True
        self._look_at(self._reader.receive(data))
        self._done()

    def look_at(self, data: bytes, most: int) -> bool:
        self._unseen = self._reader.receive(data)
        return self.go_on(most)

    def go_on(self, most: int) -> bool:
        unseen = self._unseen
        self._reading = True
        if len(unseen) > most and not self.ending:
            self._unseen = unseen[most:]
            self._look_at(unseen[:most])
            return True
        self._unseen = []
        self._waiting -= 1
        self._look_at(unseen)
        self._done()
        return False

    def _done(self) -> None:
        """All frames of a read have been looked at."""
        fault = self._reader.fault
        if fault is not None:
            self.fail(fault)
        self._reading = False
        self.flush()

    def _look_at(self, unseen: list[Frame]) -> None:
        try:
            for kind, flags, stream_id, payload in unseen:
                if self.ending:
                    return
                try:
                    if self._block_stream:
                        self._on_continuation(kind, flags, stream_id, payload)
                    elif kind == DATA:
                        self._on_data(flags, stream_id, payload)
                    elif kind == HEADERS:
                        self._on_headers(flags, stream_id, payload)
                    else:
                        self._on_other(kind, flags, stream_id, payload)
                except StreamFault as stream_fault:  # mypyc: one name, one type
                    self._on_stream_fault(stream_fault)
        except ConnectionFault as fault:
            self.fail(fault)

    def break_off(self) -> None:
        self.ending = True
        self.transport.abort()

    def _take_greeting(self, data: bytes) -> bytes:
        """What came, from the first SETTINGS on, before which nothing may be but the preface
        (RFC 9113 section 3.4); nothing as long as that is not certain."""
        early = self._early + data
        start = len(self.preface)
        first = early[start : start + _UP_TO_FLAGS]
        if early[:start] != self.preface[: len(early)]:
            self.fail(ConnectionFault(PROTOCOL_ERROR, "this is no HTTP/2"))
        elif len(first) < _UP_TO_FLAGS:
            self._early = early
        elif first[3] != frames.SETTINGS or first[4] & frames.ACK:
            self.fail(ConnectionFault(PROTOCOL_ERROR, "SETTINGS have to come first"))
        else:
            self._greeted = True
            self._early = b""
            return early[start:]
        return b""

    def _on_stream_fault(self, fault: StreamFault) -> None:
        try:
            self._check_opened(fault.stream_id)
        except ConnectionFault:  # nothing may be sent on it (RFC 9113 section 6.4)
            raise ConnectionFault(fault.code, fault.detail) from None
        if fault.stream_id not in self._reset:
            self.reset(fault.stream_id, fault.code)
        self.spend_reset()

    def pause_writing(self) -> None:
        self.stalled = True
        # Whoever does not read what we answer is not read either: or each of its frames could make
        # us keep another answer.
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.stalled = False
        self.transport.resume_reading()
        self.take_turns()

    def write(self, data: bytes) -> None:
        """Sends ``data`` with all that is written in this turn of the loop: a system call costs as
        much as all that the gateway does for a call, and there are five frames for each."""
        out = self._out
        if not out and not self._reading:
            self._queue.add(self, b"")
        out.append(data)
        self._out_size += len(data)
        if self._out_size > WRITE_HIGH_WATER:  # a slow peer has to be noticed
            self.flush()

    def flush(self) -> None:
        """Sends what has been written."""
        out = self._out
        if out:
            data = out[0] if len(out) == 1 else b"".join(out)
            out.clear()
            self._out_size = 0
            if not self.transport.is_closing():
                self.transport.write(data)

    def headers_frames(self, stream_id: int, headers: Headers, ends: bool) -> bytes:
        """HEADERS, and CONTINUATIONs if need be."""
        block = self._encoder.encode(headers)
        if self._table_unused:
            self._table_unused = False
            block = EMPTY_TABLE + block
        return frames.headers_frames(stream_id, block, ends, self.peer_frame_size)

    def take_turns(self) -> None:
        """Sends what waits, a frame of each stream in turn, until there is no room."""
        turns = self.turns
        while turns and self.send_window > 0 and not self.stalled:
            stream = next(iter(turns))
            del turns[stream]
            if stream.take_turn():
                turns[stream] = None

    def first_credit(self) -> int:
        """By how much the connection's own window is larger than the first that all have."""
        return CONNECTION_WINDOW - DEFAULT_WINDOW

    # Ends.

    def fail(self, fault: ConnectionFault) -> None:
        """Says why, and ends the connection."""
        if not self.ending:
            self.ending = True
            self.write(frames.goaway(self.last_stream_id, fault.code, fault.detail))
            self.flush()
            self.on_fault(fault)

    def reset(self, stream_id: int, code: int) -> None:
        """Ends a stream: the peer is told, and its consumer."""
        stream = self.streams.get(stream_id)
        self.forget_reset(stream_id, code)
        if stream is not None:
            stream.on_reset(code)

    def forget_reset(self, stream_id: int, code: int) -> None:
        """Ends a stream without a word to its consumer. What the peer still sends is dropped."""
        self.write(frames.rst_stream(stream_id, code))
        self.drop_what_comes(stream_id)
        self.forget(stream_id)

    def drop_what_comes(self, stream_id: int) -> None:
        """Frames for this stream may be on their way, and are no fault."""
        self._reset[stream_id] = None
        if len(self._reset) > REMEMBERED_RESETS:
            del self._reset[next(iter(self._reset))]

    def forget(self, stream_id: int) -> None:
        """The stream is over on both sides."""
        stream = self.streams.pop(stream_id, None)
        if stream is not None:
            if stream.is_waiting:
                stream.drop_waiting()
            self.on_stream_over()

    @property
    def last_stream_id(self) -> int:
        """The last stream of the peer's that has been looked at."""
        return 0

    def on_fault(self, fault: ConnectionFault) -> None:
        """The GOAWAY is written: closes, and tells all consumers."""
        raise NotImplementedError

    def on_stream_over(self) -> None:
        """There is one stream less."""

    # In, frame by frame.

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        arrived = self._arrived + size
        if arrived > CONNECTION_WINDOW:
            raise ConnectionFault(FLOW_CONTROL_ERROR, "more DATA than the connection's window")
        data = payload
        if flags & PADDED or not stream_id:
            data = frames.read_data(flags, stream_id, payload)
        if arrived * 2 >= CONNECTION_WINDOW:
            self.write(frames.window_update(0, arrived))
            arrived = 0
        self._arrived = arrived
        ends = flags & END_STREAM != 0
        if not data and not ends:
            self._spend_empty()
        stream = self.streams.get(stream_id)
        if stream is None:
            self._on_unknown(stream_id)
            return
        stream.receive_window -= size
        if stream.receive_window < 0:
            raise StreamFault(stream_id, FLOW_CONTROL_ERROR, "more DATA than the stream's window")
        stream.on_data(data, size, ends=ends)

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        fragment = payload
        if flags & (PADDED | PRIORITY_FIELDS) or not stream_id:
            fragment = frames.read_headers(flags, stream_id, payload)
        if flags & END_HEADERS:
            self._on_block(stream_id, fragment, flags & END_STREAM != 0)
        else:
            self._block.append(fragment)
            self._block_size = len(fragment)
            self._block_stream = stream_id
            self._block_ends = flags & END_STREAM != 0
            self.on_block_begun()

    def _on_continuation(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind != CONTINUATION or stream_id != self._block_stream:
            raise ConnectionFault(PROTOCOL_ERROR, "a frame within a header block")
        if not payload:
            self._spend_empty()
        self._block.append(payload)
        self._block_size += len(payload)
        if self._block_size > self._block_limit:
            raise ConnectionFault(ENHANCE_YOUR_CALM, "a header block that is too large")
        if flags & END_HEADERS:
            block = b"".join(self._block)
            self._block.clear()
            self._block_stream = 0
            self._on_block(stream_id, block, self._block_ends)

    def _on_block(self, stream_id: int, block: bytes, ends: bool) -> None:
        raise NotImplementedError

    def on_block_begun(self) -> None:
        """More of a header block has to follow."""

    def _on_other(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == frames.WINDOW_UPDATE:
            self._on_window_update(stream_id, payload)
        elif kind == frames.RST_STREAM:
            self._on_rst_stream(stream_id, payload)
        elif kind == frames.SETTINGS:
            self._on_settings(flags, stream_id, payload)
        elif kind == frames.PING:
            self._on_ping(flags, stream_id, payload)
        elif kind == frames.GOAWAY:
            last, code, detail = frames.read_goaway(stream_id, payload)
            self.on_goaway(last, code, detail)
        elif kind == frames.PRIORITY:
            self._spend_noise()
            frames.check_priority(stream_id, payload)
        elif kind == frames.PUSH_PROMISE:
            raise ConnectionFault(PROTOCOL_ERROR, "PUSH_PROMISE, which nobody has allowed")
        elif kind == CONTINUATION:
            raise ConnectionFault(PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        else:  # an extension (RFC 9113 section 5.5)
            self._spend_noise()

    def _on_window_update(self, stream_id: int, payload: bytes) -> None:
        increment = frames.read_window_update(stream_id, payload)
        if not self._take_window():
            raise ConnectionFault(ENHANCE_YOUR_CALM, "too many WINDOW_UPDATE")
        if stream_id == 0:
            self.send_window += increment
            if self.send_window > LARGEST_WINDOW:
                raise ConnectionFault(FLOW_CONTROL_ERROR, "a window of more than 2^31-1 bytes")
            if self.turns:
                self.take_turns()
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            self._check_opened(stream_id)
            return
        stream.send_window += increment
        if stream.send_window > LARGEST_WINDOW:
            raise StreamFault(stream_id, FLOW_CONTROL_ERROR, "a window of more than 2^31-1 bytes")
        if stream.is_waiting:
            self.turns[stream] = None
            self.take_turns()

    def _on_rst_stream(self, stream_id: int, payload: bytes) -> None:
        code = frames.read_rst_stream(stream_id, payload)
        stream = self.streams.get(stream_id)
        if stream is None:
            self._check_opened(stream_id)
            self._spend_noise()
            return
        waited = stream.has_waited()
        self.forget(stream_id)
        stream.on_reset(code)
        if not waited:
            self.spend_reset()

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        settings = frames.read_settings(flags, stream_id, payload)
        if flags & frames.ACK:
            if self._settings_acknowledged:
                self._spend_noise()
            self._settings_acknowledged = True
            return
        if self._settings_seen:
            self._spend_noise()
        self._settings_seen = True
        for identifier, value in settings:
            if identifier == frames.INITIAL_WINDOW_SIZE:
                self._resize_windows(value)
            elif identifier == frames.MAX_FRAME_SIZE:
                self.peer_frame_size = min(value, DEFAULT_MAX_FRAME_SIZE * 4)
            elif identifier == frames.HEADER_TABLE_SIZE:
                # We use no table; but that one has become smaller has to be said (RFC 7541 4.2).
                if value < DEFAULT_TABLE_SIZE and self._table_used:
                    self._table_used = False
                    self._table_unused = True
            else:
                self.on_setting(identifier, value)
        self.write(frames.SETTINGS_ACK)
        if self.turns:
            self.take_turns()

    def on_setting(self, identifier: int, value: int) -> None:
        """A setting that only one side has to mind."""

    def _resize_windows(self, size: int) -> None:
        """RFC 9113 section 6.9.2: also of streams that there are, to below zero if need be."""
        change = size - self.peer_window
        self.peer_window = size
        for stream in self.streams.values():
            stream.send_window += change
            if stream.send_window > LARGEST_WINDOW:
                raise ConnectionFault(FLOW_CONTROL_ERROR, "a window of more than 2^31-1 bytes")
            if stream.is_waiting:
                self.turns[stream] = None

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        opaque = frames.read_ping(stream_id, payload)
        if flags & frames.ACK:
            self._spend_noise()
            self.on_ping_ack(opaque)
        elif self._take_window():
            self.write(frames.ping_ack(opaque))
        else:
            raise ConnectionFault(ENHANCE_YOUR_CALM, "too many PING")

    def on_ping_ack(self, opaque: bytes) -> None:
        """The answer to one of ours, perhaps."""

    def on_goaway(self, last_stream_id: int, code: int, detail: bytes) -> None:
        """The peer opens, or takes, no more streams."""

    # What costs the peer nothing.

    def spend_reset(self) -> None:
        if not self.budgets.resets.take(self.now):
            raise ConnectionFault(ENHANCE_YOUR_CALM, "too many streams reset")

    def _spend_noise(self) -> None:
        if not self.budgets.noise.take(self.now):
            raise ConnectionFault(ENHANCE_YOUR_CALM, "too many frames that ask for nothing")

    def _take_window(self) -> bool:
        windows = self.budgets.windows
        windows.give(WINDOWS_PER_DATA * self.data_frames)
        self.data_frames = 0
        return windows.take(self.now)

    def _spend_empty(self) -> None:
        if not self.budgets.empty.take(self.now):
            raise ConnectionFault(ENHANCE_YOUR_CALM, "too many empty frames")

    def _on_unknown(self, stream_id: int) -> None:
        """DATA for a stream that there is not, or no more."""
        self._check_opened(stream_id)
        self._spend_noise()
        if stream_id not in self._reset:
            raise StreamFault(stream_id, STREAM_CLOSED, "DATA for a stream that is over")

    def _check_opened(self, stream_id: int) -> None:
        """Raises a fault if the stream has never been opened (RFC 9113 section 5.1, "idle")."""
        raise NotImplementedError
