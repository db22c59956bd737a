"""An HTTP/2 peer that can say anything: frames as functions, and a log of what came back.

It shares no code with the gateway but the numbers: frames are cut here, header blocks are read by
the library ``hpack``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import pack, unpack

from hpack import Decoder

from siger_gateway.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
)

Fields = list[tuple[bytes, bytes]]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"", length: int = -1) -> bytes:
    """Any frame; ``length``: what its header says, if that is to be a lie."""
    size = len(payload) if length < 0 else length
    return pack(">BHBBL", size >> 16, size & 0xFFFF, kind, flags, stream) + payload


def block(fields: Fields) -> bytes:
    """A header block that changes no table: literals, without Huffman's code."""
    return b"".join(b"\0" + string(name) + string(value) for name, value in fields)


def string(value: bytes) -> bytes:
    length = len(value)
    if length < 0x7F:
        return bytes([length]) + value
    length -= 0x7F
    octets = b"\x7f"
    while length >= 0x80:
        octets += bytes([length & 0x7F | 0x80])
        length >>= 7
    return octets + bytes([length]) + value


def request(
    path: bytes = b"/",
    *fields: tuple[bytes, bytes],
    method: bytes = b"GET",
    scheme: bytes = b"http",
    authority: bytes = b"a",
) -> Fields:
    pseudo = [(b":method", method), (b":scheme", scheme), (b":authority", authority)]
    return [*pseudo, (b":path", path), *fields]


def head(
    stream: int, fields: Fields, *, ends: bool = True, whole: bool = True, flags: int = 0
) -> bytes:
    """HEADERS; ``whole``: no CONTINUATION follows."""
    flags |= END_STREAM * ends | END_HEADERS * whole
    return frame(HEADERS, flags, stream, block(fields))


def get(stream: int, path: bytes = b"/") -> bytes:
    return head(stream, request(path))


def post(stream: int, path: bytes = b"/", *fields: tuple[bytes, bytes]) -> bytes:
    """The head of a request whose body follows."""
    return head(stream, request(path, *fields, method=b"POST"), ends=False)


def data(stream: int, content: bytes = b"", *, ends: bool = False) -> bytes:
    return frame(DATA, END_STREAM * ends, stream, content)


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(pack(">HL", *pair) for pair in pairs))


def window(stream: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, pack(">L", increment))


def reset(stream: int, code: int = 8) -> bytes:
    return frame(RST_STREAM, 0, stream, pack(">L", code))


def goaway(last: int = 0, code: int = 0) -> bytes:
    return frame(GOAWAY, 0, 0, pack(">LL", last, code))


def priority(stream: int, on: int = 0) -> bytes:
    return frame(PRIORITY, 0, stream, pack(">LB", on, 15))


SETTINGS_ACK = frame(SETTINGS, ACK, 0)
HELLO = PREFACE + settings() + SETTINGS_ACK
"""What a client says first; the acknowledgement is early, which nobody can tell."""


@dataclass
class Log:
    """What a peer of ours has written, frame by frame."""

    frames: list[tuple[int, int, int, bytes]] = field(default_factory=list)
    heads: dict[int, list[Fields]] = field(default_factory=dict)
    """Stream -> its header blocks, in order."""
    bodies: dict[int, bytes] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    resets: dict[int, int] = field(default_factory=dict)
    goaways: list[tuple[int, int]] = field(default_factory=list)
    """Last stream and code."""
    windows: dict[int, int] = field(default_factory=dict)
    """Stream -> the sum of its increments."""
    pings: list[bytes] = field(default_factory=list)
    pongs: list[bytes] = field(default_factory=list)
    settings: list[dict[int, int]] = field(default_factory=list)
    acknowledged: int = 0
    _rest: bytes = b""
    _decoder: Decoder = field(default_factory=Decoder)
    _block: bytes = b""

    def read(self, data: bytes) -> None:
        """Takes what was written; fails on anything that nobody may write."""
        self._rest += data
        while len(self._rest) >= 9:
            high, low, kind, flags, stream = unpack(">BHBBL", self._rest[:9])
            stop = 9 + (high << 16 | low)
            if len(self._rest) < stop:
                return
            payload, self._rest = self._rest[9:stop], self._rest[stop:]
            self.frames.append((kind, flags, stream, payload))
            self._take(kind, flags, stream, payload)

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind in (DATA, HEADERS):
            assert stream not in self.ended, "a frame behind the end of its stream"
            assert stream not in self.resets, "a frame on a stream that was reset"
            if flags & END_STREAM:
                self.ended.add(stream)
        if kind == DATA:
            self.bodies[stream] = self.bodies.get(stream, b"") + payload
        elif kind in (HEADERS, CONTINUATION):
            self._block += payload
            if flags & END_HEADERS:
                fields = self._decoder.decode(self._block, raw=True)
                self.heads.setdefault(stream, []).append([(n, v) for n, v in fields])
                self._block = b""
        elif kind == RST_STREAM:
            assert stream not in self.resets, "reset twice"
            (self.resets[stream],) = unpack(">L", payload)
        elif kind == GOAWAY:
            self.goaways.append(unpack(">LL", payload[:8]))
        elif kind == WINDOW_UPDATE:
            (increment,) = unpack(">L", payload)
            assert increment
            self.windows[stream] = self.windows.get(stream, 0) + increment
        elif kind == PING:
            (self.pongs if flags & ACK else self.pings).append(payload)
        elif kind == SETTINGS:
            if flags & ACK:
                self.acknowledged += 1
            else:
                pairs = [unpack(">HL", payload[at : at + 6]) for at in range(0, len(payload), 6)]
                self.settings.append(dict(pairs))
        else:
            raise AssertionError(f"a frame of type {kind}")

    def status(self, stream: int) -> int:
        """Of the last response head; 0: there is none."""
        for fields in reversed(self.heads.get(stream, [])):
            if fields[0][0] == b":status":
                return int(fields[0][1])
        return 0

    def trailers(self, stream: int) -> Fields | None:
        last = self.heads[stream][-1]
        return None if last[0][0] == b":status" else last
