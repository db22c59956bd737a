"""A gRPC service that answers every call alike: ``python -m benchmarks.grpc.backend PORT PORT``."""

from __future__ import annotations

import asyncio
import sys

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


async def main() -> None:
    loop = asyncio.get_running_loop()
    for port in sys.argv[1:]:
        await loop.create_server(Service, "127.0.0.1", int(port), backlog=1024)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
