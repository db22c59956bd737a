"""One call of gRPC that the gateway itself answers; its handler is a task.

    start       the method is looked up when the task begins; ``grpc-timeout`` sets a timer
    messages    are unpacked as the handler takes them: while some wait, the client has to
    answers     the head goes with the first one; while the client reads slowly, the handler waits
    end         trailers with the status, or, before there was an answer, a head that is the end
    account     once, however it ended: HTTP's status, and the call with its code

``grpc.service`` says what a handler is.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from siger_gateway.errors import REASONS, GatewayError
from siger_gateway.grpc import deadline
from siger_gateway.grpc.framing import ENCODINGS, BadFrame, Messages, Packed, frame
from siger_gateway.grpc.service import Context, Services
from siger_gateway.grpc.status import CODES, Code, encode_message, trailers_only
from siger_gateway.http.headers import Headers
from siger_gateway.http.message import ProtocolError
from siger_gateway.http.tornado import Caller
from siger_gateway.proxy.arrival import Arrival
from siger_gateway.telemetry.metrics import GrpcCalls

MAX_REQUEST: Final = 1024 * 1024
"""Bytes of a message to the gateway itself: as large as a job may be, and some space around it."""

_TYPES: Final = (b"application/grpc", b"application/grpc+proto")
_HEAD: Final = [
    (b"content-type", b"application/grpc"),
    (b"grpc-accept-encoding", b",".join(ENCODINGS)),
]

_log = logging.getLogger(__name__)


class LocalCall:
    """A ``http.stream.Consumer``.

    :param calls: where the call is counted.
    :param caller: None where the route does not ask who it is.
    """

    __slots__ = (
        "_arrival",
        "_begun",
        "_calls",
        "_complete",
        "_context",
        "_messages",
        "_news",
        "_over",
        "_services",
        "_stream",
        "_task",
        "_timer",
        "_waiting",
        "_writable",
    )

    def __init__(
        self, arrival: Arrival, calls: GrpcCalls, services: Services, caller: Caller | None
    ) -> None:
        self._arrival = arrival
        self._calls = calls
        self._services = services
        self._stream = arrival.call.stream
        self._context = Context(caller, arrival.call.request.fields)
        self._messages: Messages | None = None
        self._waiting: deque[Packed] = deque()
        self._complete = not arrival.call.request.has_body
        self._news = asyncio.Event()  # something waits, or nothing more comes
        self._writable = asyncio.Event()
        self._writable.set()
        self._begun = False  # the head is out
        self._over = False
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    # The wire's side.

    def start(self) -> None:
        fields = self._arrival.call.request.fields
        media_type = fields[b"content-type"].partition(b";")[0].strip().lower()
        timeout = fields.get(b"grpc-timeout")
        loop = asyncio.get_running_loop()
        try:
            if media_type not in _TYPES:
                raise BadFrame(Code.UNIMPLEMENTED, "Messages have to be those of protobuf.")
            self._messages = Messages(fields.get(b"grpc-encoding", b""), MAX_REQUEST)
            if timeout is not None:
                seconds = deadline.parse(timeout) / 1e9
                self._timer = loop.call_later(seconds, self._on_deadline)
        except (GatewayError, BadFrame) as error:
            self._fail(error)
            return
        self._task = loop.create_task(self._run())

    def on_data(self, data: bytes) -> None:
        assert self._messages is not None
        if self._over:
            return
        try:
            self._waiting += self._messages.cut(data)
        except BadFrame as error:
            self._break(error)
            return
        if self._waiting:
            self._stream.pause_reading()
            self._news.set()

    def on_end(self, trailers: Headers) -> None:
        assert self._messages is not None
        if self._over:
            return
        try:
            self._messages.end()
        except BadFrame as error:
            self._break(error)
            return
        self._complete = True
        self._news.set()

    def on_request_error(self, error: ProtocolError) -> None:
        self._break(GatewayError(error.reason, error.detail))

    def on_downstream_closed(self) -> None:
        if self._stop():
            self._account(Code.CANCELLED, 499, "downstream_closed")

    def pause_response(self) -> None:
        self._writable.clear()

    def resume_response(self) -> None:
        self._writable.set()

    # The handler's side.

    async def _run(self) -> None:
        context = self._context
        try:
            handler = self._services.handler(self._arrival.path)
            if handler is None:
                raise GatewayError("no_route", "There is no such method.")
            async with aclosing(handler(self._received(), context)) as answers:
                async for answer in answers:
                    await self._writable.wait()
                    self._send(answer)
        except (GatewayError, BadFrame) as error:
            self._fail(error)
        except Exception:  # noqa: BLE001 - whatever it is, the client gets an answer
            fields = {"request_id": self._arrival.request_id.decode("latin-1")}
            _log.exception("a handler of gRPC failed", extra={"fields": fields})
            self._fail(GatewayError("internal"))
        else:
            if not self._begun:
                self._send(None)
            self._end(Code.OK, 200, "", [(b"grpc-status", b"0"), *context.trailers])

    async def _received(self) -> AsyncGenerator[bytes, None]:
        """The messages of the call; while none waits, the client may send more."""
        assert self._messages is not None
        while True:
            while self._waiting:
                yield self._messages.unpacked(self._waiting.popleft())
            if self._complete:
                return
            self._news.clear()
            self._stream.resume_reading()
            await self._news.wait()

    def _send(self, answer: bytes | None) -> None:
        data = b"" if answer is None else frame(answer)
        if self._begun:
            if data:
                self._stream.send_data(data)
            return
        self._begun = True
        self._stream.send_head(200, self._head([]), data, sized=False)

    def _head(self, status: Headers) -> Headers:
        """The fields of the response's head, dressed."""
        arrival = self._arrival
        fields = [*_HEAD, *status, (b"x-request-id", arrival.request_id)]
        return arrival.call.dress(fields)

    # The end.

    def _on_deadline(self) -> None:
        self._break(GatewayError("response_timeout", "The deadline of the call has come."))

    def _break(self, error: GatewayError | BadFrame) -> None:
        """The handler need not go on."""
        task = self._task
        self._fail(error)
        if task is not None:
            task.cancel()

    def _fail(self, error: GatewayError | BadFrame) -> None:
        """Ends the call with ``error``, unless it is over."""
        if isinstance(error, GatewayError):
            code, reason = CODES[error.reason], error.reason
            fields = trailers_only(error, self._arrival.request_id)[1]
            status = [field for field in fields if field[0] != b"content-type"]
        else:
            code = error.code
            too_long = code == Code.RESOURCE_EXHAUSTED
            reason = "body_too_large" if too_long else "bad_request"
            message = encode_message(error.detail)
            status = [(b"grpc-status", b"%d" % code), (b"grpc-message", message)]
        http = 200 if self._begun else REASONS[reason].status
        self._end(code, http, reason, [*status, *self._context.trailers])

    def _end(self, code: Code, status: int, reason: str, trailers: Headers) -> None:
        if self._over:
            return
        self._release()
        stream, request = self._stream, self._arrival.call.request
        if not request.complete:  # the rest of it is not awaited
            stream.close_after_response()
        if not self._begun:
            stream.send_head(200, self._head(trailers), b"", sized=True, ends=True)
            trailers = []
        # Accounted first: ending the stream may start the client's next request.
        self._account(code, status, reason)
        stream.send_end(trailers)

    def _stop(self) -> bool:
        """Ends the handler, with nothing more to be sent; False: the call was over."""
        if self._over:
            return False
        self._release()
        if self._task is not None:
            self._task.cancel()
        return True

    def _release(self) -> None:
        self._over = True
        if self._timer is not None:
            self._timer.cancel()

    def _account(self, code: Code, status: int, reason: str) -> None:
        self._calls.count(self._arrival.path, code.name, answered=True)
        detail = f"grpc-status {code.name}" if code else ""
        self._arrival.close(status, reason, detail)
