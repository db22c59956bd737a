"""A gRPC service: ``python -m benchmarks.grpc.backend KIND PORT...``.

``unary`` answers every call alike, ``chat`` every message of a stream with one of its own. Neither
looks into header blocks, so a port has one of the two. Clients of grpcio take both for real.
"""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict

import uvloop

from benchmarks.grpc.wire import GREETING, MESSAGE, Speaker
from siger_gateway.http2.frames import PREFACE, data_frame, headers_frames
from siger_gateway.http2.hpack_encoder import HeaderEncoder

encode = HeaderEncoder().encode
ANSWER_HEAD = encode(
    [
        (b":status", b"200"),
        (b"content-type", b"application/grpc"),
        (b"grpc-accept-encoding", b"identity, deflate, gzip"),
    ]
)
ANSWER_TRAILERS = encode([(b"grpc-status", b"0"), (b"grpc-message", b"")])


class Service(Speaker):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._greeted = False
        self.transport.write(GREETING)

    def data_received(self, data: bytes) -> None:
        if not self._greeted:
            self._greeted = True  # a proxy sends the whole preface in one piece
            data = data.removeprefix(PREFACE)
        super().data_received(data)

    def on_ended(self, ended: list[tuple[int, bytes]]) -> None:
        self.transport.write(
            b"".join(
                [
                    headers_frames(one, ANSWER_HEAD, False, 16384)
                    + data_frame(one, MESSAGE, False)
                    + headers_frames(one, ANSWER_TRAILERS, True, 16384)
                    for one, _ in ended
                ]
            )
        )


class Chat(Service):
    """One connection, each stream of which is a conversation."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._taken: defaultdict[int, int] = defaultdict(int)  # bytes, by stream

    def on_data(self, pieces: list[tuple[int, int]]) -> None:
        out = []
        for stream_id, size in pieces:
            before = self._taken[stream_id]
            self._taken[stream_id] += size
            if not before:
                out.append(headers_frames(stream_id, ANSWER_HEAD, False, 16384))
            whole = self._taken[stream_id] // len(MESSAGE) - before // len(MESSAGE)
            out += [data_frame(stream_id, MESSAGE, False)] * whole
        if out:
            self.transport.write(b"".join(out))

    def on_ended(self, ended: list[tuple[int, bytes]]) -> None:
        for stream_id, _ in ended:
            self._taken.pop(stream_id, None)
            self.transport.write(headers_frames(stream_id, ANSWER_TRAILERS, True, 16384))


KINDS = {"unary": Service, "chat": Chat}


async def main() -> None:
    loop = asyncio.get_running_loop()
    kind, *ports = sys.argv[1:]
    for port in ports:
        await loop.create_server(KINDS[kind], "127.0.0.1", int(port), backlog=1024)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
