"""A gRPC service and its clients for the tests: grpcio on both ends, messages are plain bytes.

A request is a JSON object, with as many blanks behind it as it has to be large: ``size`` or
``sizes`` of what comes back, ``code`` and ``message`` of a status, ``wait`` for the end. What the
metadata of grpc's interop tests ask to have echoed is echoed. Run as a program it serves until it
is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc
from grpc import aio

from tests.running import BOUND

TEST = "/grpc.testing.TestService"
ECHO_INITIAL = "x-grpc-test-echo-initial"
ECHO_TRAILING = "x-grpc-test-echo-trailing-bin"
NO_LIMIT = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def ask(pad: int = 0, **wanted: Any) -> bytes:
    """A request of at least ``pad`` bytes."""
    return json.dumps(wanted).encode().ljust(pad)


@dataclass
class ServedCall:
    """One call as the service saw it."""

    method: str
    metadata: dict[str, str | bytes]
    time_remaining: float | None
    messages: int = 0
    """Those that it has read, or sent if it is the one to send."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: bool = False
    """While it was waiting; to one that reads, grpcio shows a cancellation as the end."""

    async def end(self) -> ServedCall:
        """Waits until it is over."""
        async with asyncio.timeout(BOUND):
            await self.ended.wait()
        return self


class Addressed(Protocol):
    """Something that listens."""

    @property
    def address(self) -> str: ...


class CallsSeen:
    """The calls that have come to a service, oldest first."""

    def __init__(self) -> None:
        self.calls: list[ServedCall] = []
        self._news = asyncio.Event()

    def came(self, call: ServedCall) -> None:
        self.calls.append(call)
        self._news.set()

    async def called(self, number: int = 1) -> ServedCall:
        """The call of that number, once it has come."""
        async with asyncio.timeout(BOUND):
            while len(self.calls) < number:
                self._news.clear()
                await self._news.wait()
        return self.calls[number - 1]

    async def forget(self) -> None:
        """The next call is the first."""
        self.calls.clear()


class GrpcService(CallsSeen, grpc.GenericRpcHandler):
    """The service. Its trailing metadata say who it is: ``x-port``.

    :param refuses: the status with which every call is refused at once.
    """

    compresses = True

    def __init__(self, refuses: grpc.StatusCode | None = None) -> None:
        super().__init__()
        self.refuses = refuses
        self.refuses_with: tuple[tuple[str, str], ...] = ()
        """Trailing metadata of those calls."""
        self.port = 0
        self._server: aio.Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(
        self,
        credentials: grpc.ServerCredentials | None = None,
        compression: grpc.Compression | None = None,
    ) -> None:
        """Listens; again, after a stop, on the same port."""
        server = aio.server(options=NO_LIMIT, compression=compression)
        server.add_generic_rpc_handlers((self,))
        where = f"127.0.0.1:{self.port}"
        if credentials is None:
            self.port = server.add_insecure_port(where)
        else:
            self.port = server.add_secure_port(where, credentials)
        await server.start()
        self._server = server

    async def stop(self, grace: float | None = None) -> None:
        """GOAWAY; after ``grace`` seconds what is left is cancelled."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(grace)

    # What it serves.

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        service, _, method = details.method[1:].partition("/")
        if service == "grpc.testing.UnimplementedService":
            return None
        return {
            "EmptyCall": grpc.unary_unary_rpc_method_handler(self._empty),
            "UnaryCall": grpc.unary_unary_rpc_method_handler(self._unary),
            "StreamingOutputCall": grpc.unary_stream_rpc_method_handler(self._output),
            "StreamingInputCall": grpc.stream_unary_rpc_method_handler(self._input),
            "FullDuplexCall": grpc.stream_stream_rpc_method_handler(self._duplex),
            "Silent": grpc.stream_stream_rpc_method_handler(self._silent),
        }.get(method)

    @contextlib.asynccontextmanager
    async def _serving(self, context: aio.ServicerContext, method: str) -> AsyncIterator[Any]:
        metadata = dict(context.invocation_metadata() or ())
        call = ServedCall(method, metadata, context.time_remaining())
        self.came(call)
        trailing: list[tuple[str, str | bytes]] = [("x-port", str(self.port))]
        if ECHO_TRAILING in metadata:
            trailing.append((ECHO_TRAILING, metadata[ECHO_TRAILING]))
        context.set_trailing_metadata(trailing)
        context.add_done_callback(lambda _: call.ended.set())
        try:
            if self.refuses is not None:
                await context.abort(self.refuses, "not me", self.refuses_with)
            if ECHO_INITIAL in metadata:
                await context.send_initial_metadata([(ECHO_INITIAL, metadata[ECHO_INITIAL])])
            yield call
        except asyncio.CancelledError:
            call.cancelled = True
            raise

    async def _empty(self, request: bytes, context: aio.ServicerContext) -> bytes:
        async with self._serving(context, "EmptyCall"):
            assert request == b""
            return b""

    async def _unary(self, request: bytes, context: aio.ServicerContext) -> bytes:
        async with self._serving(context, "UnaryCall"):
            wanted = await self._wanted(request, context)
            return bytes(wanted.get("size", 0))

    async def _output(self, request: bytes, context: aio.ServicerContext) -> AsyncIterator[bytes]:
        async with self._serving(context, "StreamingOutputCall") as call:
            wanted = await self._wanted(request, context)
            for size in wanted.get("sizes", [wanted.get("size", 0)] * wanted.get("count", 0)):
                yield bytes(size)
                call.messages += 1

    async def _input(self, requests: AsyncIterator[bytes], context: aio.ServicerContext) -> bytes:
        async with self._serving(context, "StreamingInputCall") as call:
            total = 0
            async for request in requests:
                call.messages += 1
                total += len(request)
            return ask(total=total)

    async def _duplex(
        self, requests: AsyncIterator[bytes], context: aio.ServicerContext
    ) -> AsyncIterator[bytes]:
        async with self._serving(context, "FullDuplexCall") as call:
            async for request in requests:
                call.messages += 1
                wanted = await self._wanted(request, context)
                yield bytes(wanted.get("size", 0))
                if wanted.get("wait"):
                    await asyncio.Event().wait()

    async def _silent(
        self, requests: AsyncIterator[bytes], context: aio.ServicerContext
    ) -> AsyncIterator[bytes]:
        async with self._serving(context, "Silent"):
            await asyncio.Event().wait()
            yield b""

    async def _wanted(self, request: bytes, context: aio.ServicerContext) -> dict[str, Any]:
        wanted: dict[str, Any] = json.loads(request)
        if wanted.get("code"):
            code = next(one for one in grpc.StatusCode if one.value[0] == wanted["code"])
            await context.abort(code, wanted["message"])
        return wanted


class TestClient:
    """A client of the service through ``channel``."""

    __test__ = False

    def __init__(self, channel: aio.Channel) -> None:
        self.channel = channel
        self.empty = channel.unary_unary(f"{TEST}/EmptyCall")
        self.unary = channel.unary_unary(f"{TEST}/UnaryCall")
        self.output = channel.unary_stream(f"{TEST}/StreamingOutputCall")
        self.input = channel.stream_unary(f"{TEST}/StreamingInputCall")
        self.duplex = channel.stream_stream(f"{TEST}/FullDuplexCall")
        self.silent = channel.stream_stream(f"{TEST}/Silent")


@contextlib.asynccontextmanager
async def client_of(
    port: int,
    credentials: grpc.ChannelCredentials | None = None,
    *options: tuple[str, Any],
) -> AsyncIterator[TestClient]:
    """A client on connections of its own, which repeats nothing: not even what would be safe."""
    settings = [*NO_LIMIT, ("grpc.use_local_subchannel_pool", 1), *options]
    settings.append(("grpc.enable_http_proxy", 0))
    address = f"127.0.0.1:{port}"
    if credentials is None:
        channel = aio.insecure_channel(address, settings)
    else:
        settings.append(("grpc.ssl_target_name_override", "gateway.test"))
        channel = aio.secure_channel(address, credentials, settings)
    async with channel:
        yield TestClient(channel)


async def failure(call: Any) -> aio.AioRpcError:
    """The error with which ``call`` ends, a call or its stream."""
    try:
        async with asyncio.timeout(BOUND):
            if hasattr(call, "__aiter__"):
                async for _ in call:
                    pass
            else:
                await call
    except aio.AioRpcError as error:
        return error
    raise AssertionError("the call was answered")


def routed(*services: Addressed, service: str = "", route: str = "", rest: str = "") -> str:
    """The configuration of a gateway in front of ``services``, which are alike."""
    addresses = [one.address for one in services]
    protocol = "" if "protocol:" in service else ", protocol: h2c"
    return (
        'consul_address: ""\nnats_address: ""\n'
        f"services: {{s: {{endpoints: {addresses}{protocol}{service}}}}}\n"
        f"routes: [{{name: r, match: {{path_prefix: /}}, service: s{route}}}]\n{rest}"
    )


async def main() -> None:
    service = GrpcService()
    await service.start()
    print(service.port, flush=True)
    await asyncio.to_thread(sys.stdin.read)  # as long as who has started it lives


if __name__ == "__main__":
    asyncio.run(main())
