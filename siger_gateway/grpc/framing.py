"""gRPC messages in a byte stream: each has a flag and a length before it (PROTOCOL-HTTP2.md of
grpc, Length-Prefixed-Message).

    +------------+--------------------+-----------------
    | compressed | length, big-endian | length bytes
    |   1 byte   |      4 bytes       |
    +------------+--------------------+-----------------

Calls that are only passed on are never taken apart; this is for those that the gateway itself ends:
transcoded ones and those of its own services.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

from siger_gateway.grpc.status import Code

PREFIX: Final = 5
"""Bytes before each message."""

MAX_MESSAGE: Final = 4 * 1024 * 1024
"""Bytes of a message, also once it is decompressed: what gRPC's own libraries accept."""

ENCODINGS: Final = (b"identity", b"gzip", b"deflate")
"""What ``grpc-encoding`` may name here, for ``grpc-accept-encoding``."""

_WINDOWS: Final = {b"gzip": zlib.MAX_WBITS | 16, b"deflate": zlib.MAX_WBITS}
"""``wbits`` of zlib: the container of RFC 1952, and that of RFC 1950, which is HTTP's "deflate"."""


Packed = tuple[int, bytes]
"""A message as it came, behind its flag."""


class BadFrame(Exception):
    """The peer's stream is not what gRPC allows.

    :param code: what gRPC has the other side told.
    """

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def frame(message: bytes) -> bytes:
    """A message as it is sent, not compressed."""
    return struct.pack(">BI", 0, len(message)) + message


class Messages:
    """Takes messages out of a stream of bytes, in pieces of any size.

    :param encoding: the stream's ``grpc-encoding``; empty: there is none.
    :param limit: bytes of a message; a longer one is refused by its length, before it is read.
    :raises BadFrame: ``UNIMPLEMENTED`` for an unknown encoding.
    """

    def __init__(self, encoding: bytes = b"", limit: int = MAX_MESSAGE) -> None:
        if encoding and encoding not in ENCODINGS:
            raise BadFrame(Code.UNIMPLEMENTED, "The compression of the messages is not known.")
        self._window = _WINDOWS.get(encoding)
        self._limit = limit
        self._held = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that ``data`` completes.

        :raises BadFrame: as ``cut`` and ``unpacked`` do.
        """
        return [self.unpacked(message) for message in self.cut(data)]

    def cut(self, data: bytes) -> list[Packed]:
        """The messages that ``data`` completes, for who unpacks each when its turn comes: a few
        KiB may be as many MiB then.

        :raises BadFrame: ``RESOURCE_EXHAUSTED`` for one that is too long, ``INTERNAL`` for what is
            no message.
        """
        held, messages, start = self._held, list[Packed](), 0
        held += data
        while len(held) - start >= PREFIX:
            flag, length = struct.unpack_from(">BI", held, start)
            self._check(flag, length)
            end = start + PREFIX + length
            if len(held) < end:
                break
            messages.append((flag, bytes(held[start + PREFIX : end])))
            start = end
        del held[:start]
        return messages

    def unpacked(self, packed: Packed) -> bytes:
        """A message of ``cut``.

        :raises BadFrame: as ``cut``.
        """
        flag, message = packed
        return self._decompressed(message) if flag else message

    def end(self) -> None:
        """The stream has ended.

        :raises BadFrame: ``INTERNAL``: within a message.
        """
        if self._held:
            raise BadFrame(Code.INTERNAL, "The stream ends within a message.")

    def _check(self, flag: int, length: int) -> None:
        if flag > 1:
            raise BadFrame(Code.INTERNAL, "A message has flags that are not known.")
        if flag and self._window is None:
            # compression.md of grpc: a compressed message without an encoding is INTERNAL.
            raise BadFrame(Code.INTERNAL, "A message is compressed, and nobody said how.")
        if length > self._limit:
            raise self._too_long()

    def _decompressed(self, message: bytes) -> bytes:
        """One byte more than the limit is the most that is ever unpacked."""
        assert self._window is not None
        unpacking = zlib.decompressobj(self._window)
        try:
            unpacked = unpacking.decompress(message, self._limit + 1)
        except zlib.error:
            raise BadFrame(Code.INTERNAL, "A message is badly compressed.") from None
        if len(unpacked) > self._limit:
            raise self._too_long()
        if not unpacking.eof or unpacking.unused_data:
            raise BadFrame(Code.INTERNAL, "A message is badly compressed.")
        return unpacked

    def _too_long(self) -> BadFrame:
        return BadFrame(
            Code.RESOURCE_EXHAUSTED, f"A message has more than the {self._limit} bytes allowed."
        )
