"""A shorter way through nats-py, for the two things that are done once per job.

nats-py connects, signs in, speaks TLS and keeps the connection alive; that stays as it is. But each
message that it receives costs it two regular expressions, a ``Msg``, a queue and a wake-up of a
task, and each request a future, a task and three coroutines. A ``Wire`` takes the place of the
client's parser: messages for a *sink* are cut out of the bytes and handed over at once, by a plain
call; everything else goes the client's own way. What is sent joins what the client is about to
send, and its flusher writes all of that once per turn of the loop.

Requests share one inbox, ``<inbox>.*``; the last token of the reply subject is a number that says
whose answer it is.

Private parts of nats-py that are relied on, the same since 2.0: ``Client._ps``, ``_process_msg``,
``_pending``, ``_pending_data_size``, ``_flush_queue``, and ``Subscription._id``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.protocol.parser import Parser

LOOK: Final = 0.25
"""Seconds between two looks at which requests have waited too long."""

_STATUS: Final = b"NATS/1.0 "
"""How the header block of a message begins that is a status of the server (ADR-4)."""

Sink = Callable[[bytes, bytes, bytes, bytes], None]
"""Called with subject, reply subject, header block and payload; b"" for what a message has not.
Must not raise."""


class NoAnswer(Exception):
    """It was sent, and whether it arrived is not known."""


class Wire(Parser):  # type: ignore[misc]
    """The direct way of one connected client; has to be made before any other subscription."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._sinks: dict[bytes, Sink] = {}
        self._rest = b""  # the beginning of a message
        self._pieces: list[bytes] = []  # what has come of a long one since
        self._missing = 0  # bytes that it lacks at least
        self._inbox = ""
        self._inbox_size = 0
        self._number = 0
        self._waiting: dict[bytes, tuple[asyncio.Future[bytes], float]] = {}
        self._timer: asyncio.TimerHandle | None = None
        client._ps = self

    async def open(self) -> None:
        """Makes the inbox for answers."""
        self._inbox = self._client.new_inbox() + "."
        self._inbox_size = len(self._inbox)
        await self.subscribe(self._inbox + "*", self._on_answer)

    async def subscribe(self, subject: str, sink: Sink) -> Any:
        """A subscription of nats-py whose messages go to ``sink``."""
        subscription = await self._client.subscribe(subject, cb=_nothing)
        self._sinks[b"%d" % subscription._id] = sink
        return subscription

    async def unsubscribe(self, subscription: Any) -> None:
        """Ends what ``subscribe`` began."""
        self._sinks.pop(b"%d" % subscription._id, None)
        await subscription.unsubscribe()

    def publish(self, subject: bytes) -> None:
        """Sends an empty message."""
        self._send(b"PUB %b 0\r\n\r\n" % subject)

    def request(
        self, subject: str, payload: bytes, timeout: float, headers: dict[str, str]
    ) -> asyncio.Future[bytes]:
        """Sends a message; the payload of the answer, or one of these errors:

        ``NoAnswer``: none came in ``timeout`` seconds, or the connection was lost;
        ``nats.errors.NoRespondersError``: nobody listens on that subject.

        :param subject: made of tokens that were checked, as ``headers`` are.
        :raises nats.errors.MaxPayloadError: it is larger than the server takes.
        """
        fields = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        block = f"NATS/1.0\r\n{fields}\r\n".encode()
        size = len(block) + len(payload)
        if size > self._client.max_payload:
            raise nats.errors.MaxPayloadError
        self._number += 1
        token = b"%d" % self._number
        future: asyncio.Future[bytes] = self._loop.create_future()
        self._waiting[token] = (future, self._loop.time() + timeout)
        if self._timer is None:
            self._timer = self._loop.call_later(LOOK, self._look)
        line = f"HPUB {subject} {self._inbox}{self._number} {len(block)} {size}\r\n".encode()
        self._send(b"%b%b%b\r\n" % (line, block, payload))
        return future

    def give_up(self) -> None:
        """The connection is lost: no more answers will come."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, {}
        for future, _ in waiting.values():
            if not future.done():
                future.set_exception(NoAnswer())

    async def parse(self, data: bytes = b"") -> None:
        """Called by nats-py with what it has read."""
        if self._missing > 0:  # a long message is collected, not copied again with every piece
            self._pieces.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return
        if self._pieces:
            data = b"".join([self._rest, *self._pieces])
            self._pieces.clear()
        elif self._rest:
            data = self._rest + data
        start, end = 0, len(data)
        find, sinks = data.find, self._sinks
        while start < end:
            line_end = find(b"\r\n", start)
            if line_end < 0:
                break
            first = data[start]
            if first != 77 and first != 72:  # "M" of MSG, "H" of HMSG
                self.buf = bytearray(data[start : line_end + 2])
                await super().parse()
                start = line_end + 2
                continue
            words = data[start:line_end].split()
            split = body = line_end + 2
            reply = b""
            try:
                stop = body + int(words[-1])
                if first == 72:
                    split += int(words[-2])
                    if len(words) == 6:
                        reply = words[3]
                elif len(words) == 5:
                    reply = words[3]
            except (ValueError, IndexError):
                raise nats.errors.ProtocolError("nats: malformed MSG") from None
            if stop + 2 > end:
                self._missing = stop + 2 - end
                break
            sink = sinks.get(words[2])
            if sink is not None:
                sink(words[1], reply, data[body:split], data[split:stop])
            else:
                await self.nc._process_msg(
                    int(words[2]), words[1], reply, data[split:stop], data[body:split]
                )
            start = stop + 2
        self._rest = data[start:] if start < end else b""

    def _send(self, command: bytes) -> None:
        """As ``Client._send_command`` and ``_flush_pending``, without a coroutine for each."""
        client = self._client
        client._pending.append(command)
        client._pending_data_size += len(command)
        if client._flush_queue.empty():
            client._flush_queue.put_nowait(self._loop.create_future())
        client.stats["out_msgs"] += 1
        client.stats["out_bytes"] += len(command)

    def _on_answer(self, subject: bytes, reply: bytes, headers: bytes, payload: bytes) -> None:
        future, _ = self._waiting.pop(subject[self._inbox_size :], (None, 0.0))
        if future is None or future.done():
            return
        if status_of(headers) == b"503" and not payload:
            future.set_exception(nats.errors.NoRespondersError())
        else:
            future.set_result(payload)

    def _look(self) -> None:
        """Gives up what has waited for too long."""
        now = self._loop.time()
        late = [token for token, (_, deadline) in self._waiting.items() if deadline <= now]
        for token in late:
            future, _ = self._waiting.pop(token)
            if not future.done():
                future.set_exception(NoAnswer())
        self._timer = self._loop.call_later(LOOK, self._look) if self._waiting else None


def status_of(headers: bytes) -> bytes:
    """The three digits of a status message; b"" for every other one."""
    return headers[len(_STATUS) : len(_STATUS) + 3] if headers.startswith(_STATUS) else b""


def fields_of(headers: bytes) -> dict[bytes, bytes]:
    """The fields of a header block."""
    pairs = (line.partition(b":") for line in headers.split(b"\r\n")[1:])
    return {name.strip(): value.strip() for name, colon, value in pairs if colon}


async def _nothing(message: Msg) -> None:
    """What nats-py does with a message that came before its sink was known: none asks for any."""
