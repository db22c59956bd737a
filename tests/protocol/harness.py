"""The two ends of a protocol case: a service that records every byte and answers by script, and
the bytes that a client gets, without what the gateway adds to each message.

Between two cases a *sentinel* request passes through the gateway on a connection of its own. That
it is answered rightly shows that the gateway is alive and in step; which connection it came on
shows what became of the case's; and it ends that connection, so every case begins with a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

from tests.running import BOUND, Answer, Client, RunningGateway

SENTINEL = b"/sentinel"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Scripted:
    """A service: answers each request with the next of ``answers``, or with ``OK``."""

    port: int = 0
    seen: list[bytes] = field(default_factory=list)
    """Every request, byte for byte but for the case of names, without sentinels."""
    answers: list[tuple[bytes, bool]] = field(default_factory=list)
    early: bool = False
    """Answers before the body of a request has come, and never reads it."""
    connections: int = 0
    sentinel_on: int = 0
    """The number of the connection that the last sentinel came on."""
    writers: dict[int, asyncio.StreamWriter] = field(default_factory=dict)
    """Number of a connection -> the way to send on it, unasked."""
    closed: set[int] = field(default_factory=set)
    """Numbers of connections that are closed, by whomever."""
    news: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def config(self) -> str:
        """The configuration of a gateway in front of it, with small limits."""
        return (
            'consul_address: ""\nnats_address: ""\n'
            f'services: {{s: {{endpoints: ["127.0.0.1:{self.port}"]}}}}\n'
            "routes: [{name: r, match: {path_prefix: /}, service: s}]\n"
            "limits: {header_bytes: 16KiB, body: 64KiB}\n"
        )

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        number = self.connections
        self.writers[number] = writer
        try:
            while await self._exchange(number, reader, writer):
                pass
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            self.closed.add(number)
            self.news.set()
            self._tasks.discard(task)
            writer.close()

    async def _exchange(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """One request and its answer; False when the connection is to be closed."""
        head = with_lower_names(await reader.readuntil(b"\r\n\r\n"))
        if head.split(b" ", 2)[1] == SENTINEL:
            self.sentinel_on = number
            writer.write(
                b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 8\r\n\r\nsentinel"
            )
            return False
        self.seen.append(head if self.early else head + await _body(head, reader))
        answer, closes = self.answers.pop(0) if self.answers else (OK, False)
        if answer is OK and head.startswith(b"HEAD "):
            answer = OK[:-2]
        writer.write(answer)
        await writer.drain()
        return not closes

    async def wait_closed(self, number: int) -> None:
        """Until connection ``number`` is closed."""
        async with asyncio.timeout(BOUND):
            while number not in self.closed:
                self.news.clear()
                await self.news.wait()


Ends = tuple[RunningGateway, Scripted]
"""What a case runs between."""


async def _body(head: bytes, reader: asyncio.StreamReader) -> bytes:
    """The raw bytes of a request's body. ``head`` has its names in lower case."""
    _, mark, rest = head.partition(b"\r\ncontent-length: ")
    if mark:
        return await reader.readexactly(int(rest.partition(b"\r\n")[0]))
    if b"\r\ntransfer-encoding: chunked\r\n" not in head:
        return b""
    raw = b""
    while True:
        line = await reader.readuntil(b"\r\n")
        raw += line
        size = int(line, 16)
        if not size:
            break
        raw += await reader.readexactly(size + 2)
    while True:
        line = await reader.readuntil(b"\r\n")
        raw += line
        if line == b"\r\n":
            return raw


def with_lower_names(message: bytes) -> bytes:
    """A message with its names in lower case, those of 1xx responses before it too. In which case
    the gateway writes a name is its own affair (RFC 9110 section 5.1)."""
    head, mark, rest = message.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    parts = [line.partition(b":") for line in lines]
    head = b"\r\n".join([first, *(name.lower() + colon + value for name, colon, value in parts)])
    if mark and first.startswith(b"HTTP/1.1 1"):
        rest = with_lower_names(rest)
    return head + mark + rest


async def sentinel(gateway: RunningGateway) -> None:
    """A request of its own is answered as it should be."""
    answer = await gateway.get(SENTINEL.decode())
    assert (answer.status, answer.body) == (200, b"sentinel")


def without_added(request: bytes) -> bytes:
    """A request as the service got it, without the fields that the gateway adds last.

    They must stand there once each, with the values that belong to this client.
    """
    head, _, body = request.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    hosts = [line.removeprefix(b"host: ") for line in lines if line.startswith(b"host: ")]
    assert len(hosts) == 1, f"one Host for the service: {lines}"
    (host,) = hosts
    quoted = b'"%b"' % host if set(host) & set(b":[]") else host
    via = b"via: 1.1 siger" if b"via: 1.1 siger" in lines else b"via: 1.0 siger"
    for own in (
        b"x-forwarded-for: 127.0.0.1",
        b"x-forwarded-proto: http",
        b"x-forwarded-host: " + host,
        b"forwarded: for=127.0.0.1;proto=http" + (b";host=" + quoted if host else b""),
        via,
    ):
        lines.reverse()
        lines.remove(own)
        lines.reverse()
    for name in (b"x-request-id: ", b"traceparent: "):
        (line,) = (line for line in lines if line.startswith(name))
        lines.remove(line)
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def without_added_to_response(raw: bytes, version: bytes) -> bytes:
    """What a client got, without the fields that the gateway adds to the final head.

    :param version: of the service's answer, for ``Via`` (RFC 9110 section 7.6.3).
    """
    lines = with_lower_names(raw).split(b"\r\n")
    added = (b"x-request-id: ", b"via: %b siger" % version)
    kept = [line for line in lines if not line.startswith(added)]
    if len(kept) == len(lines) - 2 and b"connection: close" in kept:
        kept.remove(b"connection: close")
    return b"\r\n".join(kept)


async def read_to_end(client: Client) -> bytes:
    """Everything up to the end of the connection, a reset included."""
    raw = b""
    async with asyncio.timeout(BOUND):
        with contextlib.suppress(ConnectionError):
            while data := await client.reader.read(65536):
                raw += data
    return raw


async def next_answer(client: Client, request: bytes) -> Answer:
    """The next final response, with 1xx before it left out."""
    while True:
        answer = await client.answer(head_only=request.startswith(b"HEAD "))
        if answer.status >= 200:
            return answer
