"""Reading the whole stream in order, without a gap and without a repetition, for ever.

An *ordered consumer*: the server pushes messages without acknowledgements and numbers them. One
``Pass`` lasts as long as the numbers follow each other and the server's heartbeats come. At the
first doubt it ends, and the next one starts at the last message that was applied. That message
is delivered again on purpose: when it is not the same message any more (another time under the
same sequence), or the stream is younger or shorter than what was read, the stream was deleted or
lost its end, and everything is read anew.

nats-py has an ordered consumer too; it drops messages without a word when it cannot keep up, and
restarts at the first message when it lost the connection before the first one came.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js import api

from siger_gateway.jobs.queue import JobQueue
from siger_gateway.jobs.stream import API_TIMEOUT
from siger_gateway.jobs.wire import Wire, fields_of, status_of

HEARTBEAT: Final = 1.0
"""Seconds of silence after which the server says that it is there; it may miss three times."""
RETRY: Final = 0.5
"""Seconds before the next pass after one that could not begin."""

_log = logging.getLogger(__name__)

Apply = Callable[[bytes, bytes, int, float], None]
"""Called with subject, data, sequence and the seconds since 1970 at which it was stored."""


@dataclass(slots=True)
class Position:
    """How far the stream was read: its identity, the last sequence and that message's time."""

    created: str = ""
    seq: int = 0
    nanoseconds: int = 0


@dataclass(slots=True)
class Pass:
    """The state of one ordered consumer."""

    consumer_seq: int = 0
    last_sign: float = 0.0
    doubt: asyncio.Event = field(default_factory=asyncio.Event)
    reason: str = ""

    def end(self, reason: str) -> None:
        self.reason = self.reason or reason
        self.doubt.set()


class Reader:
    """Reads the stream of a queue.

    :param apply: called for every message, once, in order; must not raise.
    :param reset: called before the stream is read anew from its first message.
    """

    def __init__(self, queue: JobQueue, apply: Apply, reset: Callable[[], None]) -> None:
        self._queue = queue
        self._apply = apply
        self._reset = reset
        self._moved: set[asyncio.Future[None]] = set()
        self.position = Position()
        self.live = False
        """Whether everything that was stored until a moment ago has been applied."""
        self.complete = False
        """Whether the stream was read to its end once."""

    async def run(self) -> None:
        """Reads until cancelled."""
        while True:
            client = await self._queue.connection.wait()
            try:
                await self._pass(client, self._queue.connection.wire)
            except nats.js.errors.NotFoundError:
                self._queue.repair_stream()
                await asyncio.sleep(RETRY)
            except (nats.errors.Error, TimeoutError, OSError) as error:
                _log.info("the job stream is not readable", extra={"fields": {"error": str(error)}})
                await asyncio.sleep(RETRY)
            finally:
                self.live = False
                self._wake()

    async def reached(self, seq: int, timeout: float) -> bool:
        """Waits until the message ``seq`` was applied; False: not within ``timeout`` seconds, or
        there is no connection."""
        deadline = asyncio.get_running_loop().time() + timeout
        while self.position.seq < seq and self._queue.connected:
            moved = asyncio.get_running_loop().create_future()
            self._moved.add(moved)
            try:
                async with asyncio.timeout_at(deadline):
                    await moved
            except TimeoutError:
                break
            finally:
                self._moved.discard(moved)
        return self.position.seq >= seq

    async def _pass(self, client: Client, wire: Wire) -> None:
        """One ordered consumer from its creation to the first doubt."""
        loop = asyncio.get_running_loop()
        js = client.jetstream(timeout=API_TIMEOUT)
        info = await js.stream_info(self._queue.config.stream)
        created, last = str(info.created), info.state.last_seq
        if self.position.seq and (created != self.position.created or last < self.position.seq):
            self._start_anew("it was deleted or lost messages")
        self.position.created = created
        state = Pass(last_sign=loop.time())

        def receive(subject: bytes, reply: bytes, headers: bytes, data: bytes) -> None:
            state.last_sign = loop.time()
            if state.doubt.is_set():
                return
            status = status_of(headers)
            if status:
                self._control(wire, state, status, reply, fields_of(headers))
            else:
                self._deliver(state, subject, reply, data)

        inbox = client.new_inbox()
        subscription = await wire.subscribe(inbox, receive)
        try:
            consumer = await js.add_consumer(
                self._queue.config.stream,
                api.ConsumerConfig(
                    deliver_subject=inbox,
                    deliver_policy=api.DeliverPolicy.BY_START_SEQUENCE,
                    opt_start_seq=max(1, self.position.seq),
                    ack_policy=api.AckPolicy.NONE,
                    max_deliver=1,
                    flow_control=True,
                    idle_heartbeat=HEARTBEAT,
                    num_replicas=1,
                    mem_storage=True,
                ),
            )
            if not consumer.num_pending:
                self._caught_up()
            while not state.doubt.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(HEARTBEAT):
                        await state.doubt.wait()
                if not client.is_connected:
                    state.end("the connection was lost")
                elif loop.time() - state.last_sign > 3 * HEARTBEAT:
                    state.end("no heartbeat")
            _log.info("reading the job stream again", extra={"fields": {"reason": state.reason}})
        finally:
            with contextlib.suppress(nats.errors.Error):
                await wire.unsubscribe(subscription)

    def _control(
        self, wire: Wire, state: Pass, status: bytes, reply: bytes, fields: dict[bytes, bytes]
    ) -> None:
        """A word of the server in between."""
        if status != b"100":
            state.end(f"the server says {status.decode()}")
        elif reply:  # a flow control request: "have you come this far?"
            wire.publish(reply)
        else:  # a heartbeat
            if stalled := fields.get(b"Nats-Consumer-Stalled"):
                wire.publish(stalled)
            if int(fields.get(b"Nats-Last-Consumer", b"0")) != state.consumer_seq:
                state.end("messages are missing")

    def _deliver(self, state: Pass, subject: bytes, reply: bytes, data: bytes) -> None:
        # As ``stream.delivery``, but without what is not looked at: this runs for every message.
        tokens = reply.split(b".")
        first = 4 if len(tokens) == 9 else 6
        seq, consumer_seq = int(tokens[first + 1]), int(tokens[first + 2])
        nanoseconds = int(tokens[first + 3])
        position = self.position
        if consumer_seq != state.consumer_seq + 1:
            state.end("messages are missing")
            return
        state.consumer_seq = consumer_seq
        if seq == position.seq and nanoseconds != position.nanoseconds:
            self._start_anew("another message has the last sequence")
            state.end("the stream is another one")
            return
        if seq > position.seq:
            position.seq, position.nanoseconds = seq, nanoseconds
            self._apply(subject, data, seq, nanoseconds / 1e9)
            if self._moved:
                self._wake()
        if not self.live and tokens[first + 4] == b"0":  # none is pending
            self._caught_up()

    def _caught_up(self) -> None:
        if not self.live:
            self.live = self.complete = True
            fields = {"seq": self.position.seq}
            _log.info("the job stream is read to its end", extra={"fields": fields})

    def _start_anew(self, reason: str) -> None:
        _log.warning("reading the whole job stream anew", extra={"fields": {"reason": reason}})
        self.position = Position()
        self.live = self.complete = False
        self._queue.acked_seq = self._queue.cancelled_seq = 0
        self._reset()

    def _wake(self) -> None:
        for moved in self._moved:
            if not moved.done():
                moved.set_result(None)
