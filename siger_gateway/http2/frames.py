"""HTTP/2 frames (RFC 9113 sections 4 and 6): bytes into frames, frames into what they say.

A frame is a plain tuple ``(type, flags, stream id, payload)``: there are several for each call, and
a tuple costs a tenth of an object. ``FrameReader`` makes them of bytes in any pieces. For each type
a function ``read_...`` checks what section 6 demands of its form and returns what it carries, or
raises a ``ConnectionFault`` or ``StreamFault``; types that are unknown are ignored by not reading
them (section 5.5). What a frame means, and whether it may come now, is not known here.

A function that writes returns bytes: all of what it has to say, ready for the socket.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Final

from siger_gateway.http2.faults import (
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    PROTOCOL_ERROR,
    ConnectionFault,
    StreamFault,
)

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client says first (section 3.4); its SETTINGS follow."""

# Types (section 6).
DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

# Flags.
END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITY_FIELDS: Final = 0x20
"""The flag PRIORITY of a HEADERS frame."""

# Settings (section 6.5.2; the last one: RFC 8441 section 3).
HEADER_TABLE_SIZE: Final = 0x1
ENABLE_PUSH: Final = 0x2
MAX_CONCURRENT_STREAMS: Final = 0x3
INITIAL_WINDOW_SIZE: Final = 0x4
MAX_FRAME_SIZE: Final = 0x5
MAX_HEADER_LIST_SIZE: Final = 0x6
ENABLE_CONNECT_PROTOCOL: Final = 0x8

DEFAULT_MAX_FRAME_SIZE: Final = 16384
"""Bytes; also the least that a peer may demand."""
LARGEST_MAX_FRAME_SIZE: Final = 2**24 - 1
DEFAULT_WINDOW: Final = 65535
LARGEST_WINDOW: Final = 2**31 - 1
MOST_SETTINGS: Final = 32
"""Settings in one frame, as nghttp2 has it since CVE-2020-11080; clients send up to 11."""

_TYPE_NAMES: Final = (
    *("data", "headers", "priority", "rst_stream", "settings", "push_promise", "ping", "goaway"),
    *("window_update", "continuation"),
)

HEADER_LENGTH: Final = 9
_STREAM_ID: Final = 0x7FFFFFFF
"""31 bits; the one above is reserved and ignored (section 4.1)."""

_header: Final = Struct(">HBBBL")
"""Length, of which the last byte stands by itself, type, flags, stream id."""
_same_header: Final = Struct(">LBL")
"""Length with the type as its last byte, flags, stream id: less to unpack."""
_setting: Final = Struct(">HL")
_number: Final = Struct(">L")
_two_numbers: Final = Struct(">LL")

_unpack_header: Final = _same_header.unpack_from
_pack_header: Final = _header.pack

Frame = tuple[int, int, int, bytes]
"""Type, flags, stream id, payload."""


def type_name(kind: int) -> str:
    """The name of a frame type, for metrics and logs: extensions are all ``unknown``."""
    return _TYPE_NAMES[kind] if 0 <= kind < len(_TYPE_NAMES) else "unknown"


class FrameReader:
    """Bytes, as they arrive, -> frames.

    What has arrived of an unfinished frame waits in pieces that are joined once, so that the time
    is proportional to the bytes, in whatever pieces they come. At most ``max_frame_size`` bytes
    wait, as a length beyond it is refused when the header is seen.

    :param max_frame_size: bytes of a payload; may be changed when SETTINGS are acknowledged.
    """

    __slots__ = ("_missing", "_pieces", "fault", "max_frame_size")

    def __init__(self, max_frame_size: int = DEFAULT_MAX_FRAME_SIZE) -> None:
        self.max_frame_size = max_frame_size
        self.fault: ConnectionFault | None = None
        """Why there will not be any more frames. Those returned before are valid."""
        self._pieces: list[bytes] = []
        self._missing = 0  # bytes until it makes sense to look again; zero: nothing waits

    def receive(self, data: bytes) -> list[Frame]:
        """The frames that ``data`` completes. Look at ``fault`` afterwards."""
        frames: list[Frame] = []
        if self._missing:
            self._pieces.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return frames
            data = b"".join(self._pieces)
            self._pieces.clear()
        if self.fault is not None:
            return frames

        position, end, longest = 0, len(data), self.max_frame_size
        stop = 0  # of the frame that cannot be read yet
        while position < end:
            payload = stop = position + HEADER_LENGTH
            if stop > end:
                break
            length_and_kind, flags, stream_id = _unpack_header(data, position)
            length = length_and_kind >> 8
            if length > longest:
                kind = type_name(length_and_kind & 0xFF)
                self.fault = ConnectionFault(FRAME_SIZE_ERROR, f"a {kind} frame of {length} bytes")
                stop = end
                break
            stop += length
            if stop > end:
                break
            frames.append(
                (length_and_kind & 0xFF, flags, stream_id & _STREAM_ID, data[payload:stop])
            )
            position = stop
        self._missing = max(0, stop - end)
        if self._missing:
            self._pieces.append(data[position:])
        return frames

    def __repr__(self) -> str:
        waiting = sum(map(len, self._pieces))
        return f"<FrameReader {waiting} bytes waiting for {self._missing} more, {self.fault!r}>"


# What frames say: one function for each type.


def read_data(flags: int, stream_id: int, payload: bytes) -> bytes:
    """The data, without padding, which counts for flow control, too (section 6.1)."""
    if not stream_id:
        raise ConnectionFault(PROTOCOL_ERROR, "DATA on stream 0")
    return _unpadded(payload, 0) if flags & PADDED else payload


def read_headers(flags: int, stream_id: int, payload: bytes) -> bytes:
    """The fragment of a header block, without padding and priority fields (section 6.2).

    All its faults end the connection, as the block could not be decoded.
    """
    if not stream_id:
        raise ConnectionFault(PROTOCOL_ERROR, "HEADERS on stream 0")
    if not flags & (PADDED | PRIORITY_FIELDS):
        return payload
    before = 5 if flags & PRIORITY_FIELDS else 0
    fragment = _unpadded(payload, before) if flags & PADDED else payload
    if len(fragment) < before:
        raise ConnectionFault(FRAME_SIZE_ERROR, "HEADERS too short for its priority fields")
    if before and _dependency(fragment) == stream_id:
        raise ConnectionFault(PROTOCOL_ERROR, "a stream that depends on itself")
    return fragment[before:]


def read_continuation(stream_id: int, payload: bytes) -> bytes:
    """The next fragment of a header block (section 6.10)."""
    if not stream_id:
        raise ConnectionFault(PROTOCOL_ERROR, "CONTINUATION on stream 0")
    return payload


def check_priority(stream_id: int, payload: bytes) -> None:
    """PRIORITY says nothing that is of use any more (section 6.3)."""
    if not stream_id:
        raise ConnectionFault(PROTOCOL_ERROR, "PRIORITY on stream 0")
    if len(payload) != 5:
        raise StreamFault(stream_id, FRAME_SIZE_ERROR, "PRIORITY that is not 5 bytes long")
    if _dependency(payload) == stream_id:  # RFC 7540 section 5.3.1
        raise StreamFault(stream_id, PROTOCOL_ERROR, "a stream that depends on itself")


def read_rst_stream(stream_id: int, payload: bytes) -> int:
    """The error code (section 6.4)."""
    if not stream_id:
        raise ConnectionFault(PROTOCOL_ERROR, "RST_STREAM on stream 0")
    if len(payload) != 4:
        raise ConnectionFault(FRAME_SIZE_ERROR, "RST_STREAM that is not 4 bytes long")
    return int.from_bytes(payload, "big")


def read_settings(flags: int, stream_id: int, payload: bytes) -> list[tuple[int, int]]:
    """Settings as identifier and value, in their order; none if it is an ACK (section 6.5).

    The values of those that are known are valid; a client still has to refuse ``ENABLE_PUSH`` 1.
    """
    if stream_id:
        raise ConnectionFault(PROTOCOL_ERROR, "SETTINGS on a stream")
    if flags & ACK and payload:
        raise ConnectionFault(FRAME_SIZE_ERROR, "an acknowledgement of SETTINGS with settings")
    if len(payload) % _setting.size:
        raise ConnectionFault(FRAME_SIZE_ERROR, "SETTINGS that end within a setting")
    if len(payload) > MOST_SETTINGS * _setting.size:
        raise ConnectionFault(ENHANCE_YOUR_CALM, "too many settings in one frame")
    settings: list[tuple[int, int]] = []
    for position in range(0, len(payload), _setting.size):
        identifier, value = _setting.unpack_from(payload, position)
        if identifier in (ENABLE_PUSH, ENABLE_CONNECT_PROTOCOL) and value > 1:
            raise ConnectionFault(PROTOCOL_ERROR, "a setting that is neither 0 nor 1")
        if identifier == INITIAL_WINDOW_SIZE and value > LARGEST_WINDOW:
            raise ConnectionFault(FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE above 2^31-1")
        if identifier == MAX_FRAME_SIZE and not (
            DEFAULT_MAX_FRAME_SIZE <= value <= LARGEST_MAX_FRAME_SIZE
        ):
            raise ConnectionFault(PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE out of its range")
        settings.append((identifier, value))
    return settings


def read_ping(stream_id: int, payload: bytes) -> bytes:
    """What an answer has to repeat (section 6.7)."""
    if stream_id:
        raise ConnectionFault(PROTOCOL_ERROR, "PING on a stream")
    if len(payload) != 8:
        raise ConnectionFault(FRAME_SIZE_ERROR, "PING that is not 8 bytes long")
    return payload


def read_goaway(stream_id: int, payload: bytes) -> tuple[int, int, bytes]:
    """The last stream that counts, the error code, and what is meant for a log (section 6.8)."""
    if stream_id:
        raise ConnectionFault(PROTOCOL_ERROR, "GOAWAY on a stream")
    if len(payload) < _two_numbers.size:
        raise ConnectionFault(FRAME_SIZE_ERROR, "GOAWAY of less than 8 bytes")
    last_stream_id, code = _two_numbers.unpack_from(payload)
    return last_stream_id & _STREAM_ID, code, payload[_two_numbers.size :]


def read_window_update(stream_id: int, payload: bytes) -> int:
    """By how many bytes the window of the stream grows, or of the connection, 0 (section 6.9)."""
    if len(payload) != 4:
        raise ConnectionFault(FRAME_SIZE_ERROR, "WINDOW_UPDATE that is not 4 bytes long")
    increment = int.from_bytes(payload, "big") & LARGEST_WINDOW
    if not increment:
        if stream_id:
            raise StreamFault(stream_id, PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
        raise ConnectionFault(PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
    return increment


def _unpadded(payload: bytes, least: int) -> bytes:
    """Without padding, of which there may be so much that ``least`` bytes are left."""
    if not payload:
        raise ConnectionFault(FRAME_SIZE_ERROR, "a padded frame without the padding's length")
    stop = len(payload) - payload[0]
    if stop < 1 + least:
        raise ConnectionFault(PROTOCOL_ERROR, "more padding than there is in the frame")
    return payload[1:stop]


def _dependency(priority: bytes) -> int:
    return int.from_bytes(priority[:4], "big") & _STREAM_ID


# Writing.

SETTINGS_ACK: Final = b"\0\0\0\4\1\0\0\0\0"


def frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    """Any frame; ``payload`` is no longer than the peer allows."""
    length = len(payload)
    return _pack_header(length >> 8, length & 0xFF, kind, flags, stream_id) + payload


def data_frame(stream_id: int, data: bytes, end_stream: bool) -> bytes:
    """One DATA frame; ``data`` is no longer than the peer allows."""
    length = len(data)
    flags = END_STREAM if end_stream else 0
    return _pack_header(length >> 8, length & 0xFF, DATA, flags, stream_id) + data


def data_frames(
    stream_id: int, data: bytes | memoryview, end_stream: bool, max_frame_size: int
) -> bytes:
    """As many DATA frames as it takes. ``data`` is copied once, into what is returned."""
    view = memoryview(data)
    parts: list[bytes | memoryview] = []
    position, last = 0, len(view) - max_frame_size
    while position < last:
        parts.append(_pack_header(max_frame_size >> 8, max_frame_size & 0xFF, DATA, 0, stream_id))
        parts.append(view[position : position + max_frame_size])
        position += max_frame_size
    length = len(view) - position
    flags = END_STREAM if end_stream else 0
    parts.append(_pack_header(length >> 8, length & 0xFF, DATA, flags, stream_id))
    parts.append(view[position:])
    return b"".join(parts)


def headers_frames(stream_id: int, block: bytes, end_stream: bool, max_frame_size: int) -> bytes:
    """HEADERS, with as many CONTINUATIONs as it takes."""
    length = len(block)
    flags = END_STREAM if end_stream else 0
    if length <= max_frame_size:
        flags |= END_HEADERS
        return _pack_header(length >> 8, length & 0xFF, HEADERS, flags, stream_id) + block
    parts = [frame(HEADERS, flags, stream_id, block[:max_frame_size])]
    for position in range(max_frame_size, length, max_frame_size):
        flags = END_HEADERS if position + max_frame_size >= length else 0
        fragment = block[position : position + max_frame_size]
        parts.append(frame(CONTINUATION, flags, stream_id, fragment))
    return b"".join(parts)


def settings_frame(settings: Iterable[tuple[int, int]]) -> bytes:
    """SETTINGS of these identifiers and values."""
    return frame(SETTINGS, 0, 0, b"".join([_setting.pack(*setting) for setting in settings]))


def window_update(stream_id: int, increment: int) -> bytes:
    """``increment`` is from 1 to 2^31-1 bytes; stream 0 is the connection."""
    return frame(WINDOW_UPDATE, 0, stream_id, _number.pack(increment))


def rst_stream(stream_id: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream_id, _number.pack(code))


def ping(payload: bytes) -> bytes:
    """``payload`` is 8 bytes long."""
    return frame(PING, 0, 0, payload)


def ping_ack(payload: bytes) -> bytes:
    return frame(PING, ACK, 0, payload)


def goaway(last_stream_id: int, code: int, detail: str = "") -> bytes:
    """``detail`` goes as debug data: whoever looks into the peer's log will be glad of it."""
    return frame(GOAWAY, 0, 0, _two_numbers.pack(last_stream_id, code) + detail.encode())
