"""HTTP/2 by the ``h2`` library: a client, and a service that does what its script says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

from tests.running import BOUND

Fields = list[tuple[str, str]]


class StreamReset(Exception):
    """The other side has given up the stream, or the connection has ended."""


class H2Stream:
    """One stream of either side."""

    def __init__(self, peer: H2Peer, stream_id: int) -> None:
        self._peer = peer
        self.id = stream_id
        self.interim: list[Fields] = []
        self.trailers: dict[str, str] = {}
        self.reset: int | None = None
        """The code of a RST_STREAM; -1: the connection has ended."""
        self._head: dict[str, str] | None = None
        self._data = bytearray()
        self._ended = False

    def on_event(self, event: events.Event) -> None:
        if isinstance(event, events.RequestReceived | events.ResponseReceived):
            self._head = dict(event.headers)
        elif isinstance(event, events.InformationalResponseReceived):
            self.interim.append(event.headers)
        elif isinstance(event, events.TrailersReceived):
            self.trailers = dict(event.headers)
        elif isinstance(event, events.DataReceived):
            self._data += event.data
        elif isinstance(event, events.StreamEnded):
            self._ended = True
        elif isinstance(event, events.StreamReset):
            self.reset = int(event.error_code)

    async def _until(self, known: Callable[[], object]) -> None:
        async with asyncio.timeout(BOUND):
            while not known():
                if self.reset is not None:
                    raise StreamReset(self.reset)
                await self._peer.news()

    async def head(self) -> dict[str, str]:
        """The request's or the response's."""
        await self._until(lambda: self._head is not None)
        assert self._head is not None
        return self._head

    async def interim_response(self) -> dict[str, str]:
        await self._until(lambda: self.interim)
        return dict(self.interim[-1])

    async def some(self) -> bytes:
        """What has come, at least a byte; none at the end."""
        await self._until(lambda: self._data or self._ended)
        data = bytes(self._data)
        self._data.clear()
        return data

    async def body(self) -> bytes:
        """The whole of it; raises ``StreamReset`` when it is broken off."""
        await self._until(lambda: self._ended)
        return await self.some()

    async def was_reset(self) -> int:
        """Waits for the reset; its code."""
        with contextlib.suppress(StreamReset):
            await self._until(lambda: False)
        assert self.reset is not None
        return self.reset

    async def send_head(self, *fields: tuple[str, str], end: bool = False) -> None:
        self._peer.connection.send_headers(self.id, list(fields), end_stream=end)
        await self._peer.flush()

    async def send(self, data: bytes, *, end: bool = False) -> None:
        """As fast as the windows allow."""
        connection = self._peer.connection
        if end and not data:
            connection.end_stream(self.id)
            await self._peer.flush()
        while data:
            await self._until(lambda: connection.local_flow_control_window(self.id) > 0)
            room = connection.local_flow_control_window(self.id)
            piece = data[: min(room, connection.max_outbound_frame_size)]
            data = data[len(piece) :]
            connection.send_data(self.id, piece, end_stream=end and not data)
            await self._peer.flush()

    async def give_up(self) -> None:
        self._peer.connection.reset_stream(self.id, ErrorCodes.CANCEL)
        await self._peer.flush()


class H2Peer:
    """One connection.

    :param serve: called for each request, on the side of the service.
    :param upgrades: the service says that it takes the extended CONNECT (RFC 8441).
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        serve: Callable[[H2Stream], Awaitable[None]] | None = None,
        *,
        upgrades: bool = True,
    ) -> None:
        self._reader, self._writer, self._serve = reader, writer, serve
        client = serve is None
        self.connection = H2Connection(H2Configuration(client, header_encoding="latin-1"))
        if not client:
            settings = {SettingCodes.ENABLE_CONNECT_PROTOCOL: int(upgrades)}
            self.connection.local_settings = Settings(False, initial_values=settings)
        self.connection.initiate_connection()
        self.streams: dict[int, H2Stream] = {}
        self.upgrades = asyncio.Event()
        """The other side takes the extended CONNECT."""
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def news(self) -> None:
        self._news.clear()
        await self._news.wait()

    async def flush(self) -> None:
        self._writer.write(self.connection.data_to_send())
        await self._writer.drain()

    async def run(self) -> None:
        """Until the connection ends."""
        try:
            await self.flush()
            while data := await self._reader.read(65536):
                for event in self.connection.receive_data(data):
                    self._on_event(event)
                self._news.set()
                await self.flush()
        except OSError:
            pass
        finally:
            for stream in self.streams.values():
                if stream.reset is None:
                    stream.reset = -1
            self._news.set()
            for task in self._tasks:
                task.cancel()
            self._writer.transport.abort()

    def _on_event(self, event: events.Event) -> None:
        if isinstance(event, events.RemoteSettingsChanged):
            if SettingCodes.ENABLE_CONNECT_PROTOCOL in event.changed_settings:
                self.upgrades.set()
            return
        stream_id: int | None = getattr(event, "stream_id", None)
        if not stream_id:
            return
        if isinstance(event, events.RequestReceived):
            assert self._serve is not None
            stream = self.streams[stream_id] = H2Stream(self, stream_id)
            stream.on_event(event)
            task = asyncio.ensure_future(self._serve_one(stream))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif stream_id in self.streams:
            self.streams[stream_id].on_event(event)
        if isinstance(event, events.DataReceived):
            self.connection.acknowledge_received_data(event.flow_controlled_length, stream_id)

    async def _serve_one(self, stream: H2Stream) -> None:
        assert self._serve is not None
        with contextlib.suppress(StreamReset, ProtocolError, OSError):
            await self._serve(stream)

    async def ask(
        self, method: str, path: str, *fields: tuple[str, str], end: bool = True, scheme: str = ""
    ) -> H2Stream:
        """Opens a stream with a request."""
        stream_id = self.connection.get_next_available_stream_id()
        stream = self.streams[stream_id] = H2Stream(self, stream_id)
        first = [(":method", method), (":scheme", scheme or "http"), (":path", path)]
        first.append((":authority", "gateway.test"))
        await stream.send_head(*first, *fields, end=end)
        return stream


@contextlib.asynccontextmanager
async def h2_client(port: int) -> AsyncIterator[H2Peer]:
    """A client by prior knowledge."""
    peer = H2Peer(*await asyncio.open_connection("127.0.0.1", port))
    running = asyncio.create_task(peer.run())
    try:
        yield peer
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@contextlib.asynccontextmanager
async def h2_service(
    script: Callable[[H2Stream], Awaitable[None]], *, upgrades: bool = True
) -> AsyncIterator[str]:
    """A service that does what ``script`` says; its address."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(asyncio.CancelledError):
            await H2Peer(reader, writer, script, upgrades=upgrades).run()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
