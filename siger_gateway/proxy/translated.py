"""The client's stream, for exchanges whose client speaks something else than the service does.

All that passes goes on to the wire as it is; who translates overrides what is not the same on both
sides.
"""

from __future__ import annotations

import asyncio
from typing import Any

from siger_gateway.http.headers import Headers
from siger_gateway.http.stream import Consumer, DownstreamStream, HandedOver


class TranslatedStream:
    """The ``DownstreamStream`` of an exchange, in front of that of its client."""

    __slots__ = ("_stream",)

    def __init__(self, stream: DownstreamStream) -> None:
        self._stream = stream

    @property
    def peer(self) -> str:
        return self._stream.peer

    @property
    def scheme(self) -> bytes:
        return self._stream.scheme

    @property
    def bytes_in(self) -> int:
        return self._stream.bytes_in

    @bytes_in.setter
    def bytes_in(self, count: int) -> None:
        self._stream.bytes_in = count

    @property
    def bytes_out(self) -> int:
        return self._stream.bytes_out

    @bytes_out.setter
    def bytes_out(self, count: int) -> None:
        self._stream.bytes_out = count

    @property
    def head_sent(self) -> bool:
        return self._stream.head_sent

    def send_informational(self, status: int, headers: Headers) -> None:
        self._stream.send_informational(status, headers)

    def send_head(
        self,
        status: int,
        headers: Headers,
        body: bytes,
        *,
        sized: bool,
        ends: bool = False,
        lines: bytes = b"",
    ) -> None:
        self._stream.send_head(status, headers, body, sized=sized, ends=ends, lines=lines)

    def send_data(self, data: bytes) -> None:
        self._stream.send_data(data)

    def send_end(self, trailers: Headers) -> None:
        self._stream.send_end(trailers)

    def switch_protocols(self, headers: Headers, protocol: asyncio.BaseProtocol) -> HandedOver:
        return self._stream.switch_protocols(headers, protocol)

    def abort(self) -> None:
        self._stream.abort()

    def close_after_response(self) -> None:
        self._stream.close_after_response()

    def hold(self) -> None:
        self._stream.hold()

    def hand_over(self, consumer: Consumer) -> None:
        self._stream.hand_over(consumer)

    def pause_reading(self) -> None:
        self._stream.pause_reading()

    def resume_reading(self) -> None:
        self._stream.resume_reading()

    def carry_messages(self) -> None:
        """Nothing: what has to be translated is one request, not a stream."""

    def limit_body(self, limit: int) -> None:
        self._stream.limit_body(limit)

    def client_certificate(self) -> dict[str, Any] | None:
        return self._stream.client_certificate()
