"""The response of a gRPC call, for a client that speaks JSON.

    one message     JSON with its length, once the call has succeeded; else a problem document
    a stream        a line or an event for each message, as soon as it is there

Where messages are ``google.api.HttpBody``, what is in them is sent in place of JSON.

The head of a stream waits for its first message: until then a call that fails still has the HTTP
status of its code. After that, the failure is the last thing in the stream (``grpc.json_streams``).
"""

from __future__ import annotations

from collections.abc import Iterable

from siger_gateway.errors import GatewayError
from siger_gateway.grpc.framing import BadFrame, Messages
from siger_gateway.grpc.json_streams import RawStream, ResponseStream
from siger_gateway.grpc.problems import problem_of
from siger_gateway.grpc.status import Code, code_in, is_grpc
from siger_gateway.grpc.transcoding import Binding, reply_head
from siger_gateway.http.headers import Headers
from siger_gateway.http.message import Request
from siger_gateway.http.stream import DownstreamStream
from siger_gateway.proxy.translated import TranslatedStream


class JsonReply(TranslatedStream):
    """The ``DownstreamStream`` of a call whose client speaks JSON on ``stream``.

    ``send_head`` and ``send_data`` raise ``GatewayError`` (``upstream_message``) for a response
    that cannot be translated.

    :param form: how a streaming response is written; None: it is one message.
    :param asked: the request that the client has made.
    """

    __slots__ = (
        "_aborted",
        "_asked",
        "_binding",
        "_content",
        "_form",
        "_head",
        "_id",
        "_messages",
        "status",
    )

    def __init__(
        self,
        stream: DownstreamStream,
        binding: Binding,
        form: ResponseStream | RawStream | None,
        asked: Request,
        request_id: bytes,
    ) -> None:
        super().__init__(stream)
        self._binding = binding
        self._form = form
        self._asked = asked
        self._id = request_id
        self._head: Headers = []
        self._messages: Messages | None = None  # of a response of gRPC
        self._content: tuple[bytes, bytes] | None = None  # of the one message: its type, and it
        self._aborted = False
        self.status = 0
        """What the client has been told; 0: nothing yet."""

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
        fields = dict(headers)
        if not is_grpc(fields.get(b"content-type", b"")):  # the gateway's own, some proxy's page
            self._messages = None
            self.status = status
            self._stream.send_head(status, headers, body, sized=sized, ends=ends, lines=lines)
            return
        self._head = headers
        try:
            self._messages = Messages(fields.get(b"grpc-encoding", b""))
        except BadFrame as fault:
            raise GatewayError("upstream_message", fault.detail) from None
        if body:
            self.send_data(body)

    def send_data(self, data: bytes) -> None:
        if self._messages is None:
            self._stream.send_data(data)
            return
        try:
            # One by one: many small ones may be large when they are unpacked.
            messages = map(self._messages.unpacked, self._messages.cut(data))
            if self._form is None:
                self._take_message(messages)
            else:
                self._send_messages(self._form, messages)
        except BadFrame as fault:
            raise GatewayError("upstream_message", fault.detail) from None

    def _take_message(self, messages: Iterable[bytes]) -> None:
        for message in messages:
            if self._content is not None:
                raise GatewayError("upstream_message", "The service sent more than one message.")
            self._content = self._binding.response_content(message)

    def _send_messages(self, form: ResponseStream | RawStream, messages: Iterable[bytes]) -> None:
        told: list[bytes] = []
        try:
            for message in messages:
                told.append(form.feed(message))  # noqa: PERF401
        finally:  # of those before one that is no good, too
            if told:
                self._send(form, b"".join(told))

    def _send(self, form: ResponseStream | RawStream, data: bytes) -> None:
        if not self.status:
            self.status = 200
            content = [(b"content-type", form.content_type)]
            self._stream.send_head(200, reply_head(self._head, content), data, sized=False)
        elif data:
            self._stream.send_data(data)

    def settle(self, code: Code, trailers: Headers) -> None:
        """The response is complete: sends what is still missing of it, but for its end.

        :param code: see ``status.outcome``.
        :raises GatewayError: ``upstream_message``: it is not what a call that succeeds has.
        """
        if self._messages is None:
            return
        if code is not Code.OK:
            self._send_problem(code, trailers)
            return
        try:
            self._messages.end()
        except BadFrame as fault:
            raise GatewayError("upstream_message", fault.detail) from None
        if self._form is not None:
            self._send(self._form, self._form.end())
        elif self._content is not None:
            media_type, body = self._content
            self._send_whole(200, [(b"content-type", media_type)], body)
        else:
            raise GatewayError("upstream_message", "The service sent no message.")

    def send_end(self, trailers: Headers) -> None:
        if not self._aborted:
            self._stream.send_end(trailers if self._messages is None else [])

    def _send_problem(self, code: Code, trailers: Headers) -> None:
        problem = problem_of(
            code,
            trailers if code_in(trailers) is not None else self._head,
            self._binding.pool,
            instance=self._asked.path.decode("latin-1"),
            request_id=self._id.decode("latin-1"),
        )
        if self._form is not None and self.status:
            self._send_failure(self._form, problem.body)
        else:
            self._send_whole(problem.status, problem.headers, problem.body)

    def _send_whole(self, status: int, content: Headers, body: bytes) -> None:
        self.status = status
        head = reply_head(self._head, [*content, (b"content-length", b"%d" % len(body))])
        self._stream.send_head(status, head, body, sized=True)

    def break_off(self, error: GatewayError) -> None:
        """Ends a response whose head has been sent."""
        if self._form is None or self._messages is None:  # one that is passed on as it is
            self._stream.abort()
            return
        problem = error.problem(
            instance=self._asked.path.decode("latin-1"), request_id=self._id.decode("latin-1")
        )
        self._send_failure(self._form, problem)
        self.send_end([])

    def _send_failure(self, form: ResponseStream | RawStream, problem: bytes) -> None:
        """The last of a stream, or its abrupt end, so that nobody takes it for complete."""
        told = form.fail(problem)
        if told is None:
            self._aborted = True
            self._stream.abort()
        else:
            self._stream.send_data(told)
