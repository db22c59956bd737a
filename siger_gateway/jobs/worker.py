"""The other side of the queue: takes jobs, runs them, reports what becomes of them.

    async def train(job: Job, context: JobContext) -> object:
        for step in range(10):
            await work(job.params)
            await context.progress(step * 10, f"step {step}")
        return {"model": "…"}

    await Worker("localhost:4222", "train", handler=train).run()

All workers of a type share one durable consumer per lane and ask the urgent lane first. A message
is acknowledged only after the job's final event is stored; until then the server is told at short
intervals that the work goes on. When the worker dies, these signs stop and another worker gets the
job (``ACK_WAIT``); when it was already finished, that one sees so and does not run it again. So a
job runs at least once; it may run twice when a worker loses NATS for longer than that, and then
the first final event counts.

The connection may be lost and come back at any time: running jobs go on, their final events are
sent when it is back (with a ``Nats-Msg-Id``, so once), and cancel requests that were missed
meanwhile are looked up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Coroutine
from typing import Any, Final

import msgspec
import nats.errors
import nats.js.errors
import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import api

from siger_gateway.jobs.connection import Connection, NotConnected, end
from siger_gateway.jobs.job import LANES, Token
from siger_gateway.jobs.run import ACK_WAIT, Handler, Job, JobContext, JobFailed, Run
from siger_gateway.jobs.stream import API_TIMEOUT, Subjects, consumer_name, lanes

PULL: Final = 20.0
"""Seconds for which the server may hold a request for a job before it says that there is none."""
RETRY: Final = 0.5
"""Seconds before the next request after one that failed."""
MAX_ACK_PENDING: Final = 10_000
"""Jobs of one type and lane that may run at the same time, over all workers."""
STOP_GRACE: Final = 30.0
"""Seconds that running jobs get to finish when the worker is stopped."""
CANCEL_GRACE: Final = 10.0
"""Seconds that a handler gets to notice a cancellation before it is interrupted."""
MAX_ATTEMPTS: Final = 5
"""Deliveries after which a job is given up as failed: each one before ended with a dead worker."""

__all__ = ["Handler", "Job", "JobContext", "JobFailed", "Worker"]

_log = logging.getLogger(__name__)


class Worker:
    """Runs jobs of one type.

    :param servers: ``host:port`` of NATS, several separated by commas.
    :param type: the job type.
    :param lane: one of ``LANES``; empty: all of them, the most urgent first.
    :param concurrency: jobs at a time.
    :param handler: called with the job and its context; what it returns (JSON) is the result.
    :param stop_grace: seconds that running jobs get to finish after ``stop``; then they are
        interrupted and given back to the queue.
    :param cancel_grace: seconds from a cancel request to the interruption of the handler.
    :raises ValueError: an unknown lane, or a concurrency below 1.
    """

    def __init__(
        self,
        servers: str,
        type: str,
        lane: str = "",
        concurrency: int = 1,
        *,
        handler: Handler,
        stream: str = "jobs",
        stop_grace: float = STOP_GRACE,
        cancel_grace: float = CANCEL_GRACE,
        max_attempts: int = MAX_ATTEMPTS,
        ack_wait: float = ACK_WAIT,
    ) -> None:
        try:
            msgspec.convert(type, Token)
        except msgspec.ValidationError:
            raise ValueError(f"{type!r} is no job type: it has to be a token") from None
        if lane and lane not in LANES:
            raise ValueError(f"unknown lane {lane!r}; there are: {', '.join(LANES)}")
        if concurrency < 1:
            raise ValueError("concurrency must be 1 or more")
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        self.subjects = Subjects(stream)
        self.handler = handler
        self.cancel_grace = cancel_grace
        self.max_attempts = max_attempts
        self.ack_wait = ack_wait
        self.connection = Connection(servers, f"siger-worker-{type}", self._set_up)
        self.stopping = asyncio.Event()
        self._type = type
        self._lanes = lanes(lane)
        self._concurrency = concurrency
        self._stop_grace = stop_grace
        self._running: dict[str, Run] = {}
        self._side_tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Worker {self._type} running={len(self._running)}>"

    async def run(self) -> None:
        """Takes and runs jobs until ``stop``."""
        self.connection.start()
        slots = [asyncio.create_task(self._slot()) for _ in range(self._concurrency)]
        try:
            await self.stopping.wait()
            for slot in slots:
                if slot not in {run.slot for run in self._running.values()}:
                    slot.cancel()
            await asyncio.wait(slots, timeout=self._stop_grace)
        finally:
            self.stopping.set()
            await end(slots, again=self.cancel_grace + API_TIMEOUT)
            if self._side_tasks:
                await asyncio.wait(self._side_tasks, timeout=API_TIMEOUT)
            await self.connection.close()

    def stop(self) -> None:
        """Takes no more jobs; ``run`` returns when the running ones have ended or the grace has."""
        self.stopping.set()

    async def run_until_signal(self) -> None:
        """``run``, with SIGTERM and SIGINT as ``stop``; the second one kills as usual."""
        loop = asyncio.get_running_loop()

        def stop(number: signal.Signals) -> None:
            loop.remove_signal_handler(number)
            self.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop, number)
        try:
            await self.run()
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    async def _set_up(self, client: Client) -> None:
        """The consumers, the cancel requests, and news of the jobs that are already running."""
        await self._make_consumers(client)
        await client.subscribe(self.subjects.cancel("*"), cb=self._on_cancel)
        for run in list(self._running.values()):
            run.reconnected()

    async def _make_consumers(self, client: Client) -> None:
        js = client.jetstream(timeout=API_TIMEOUT)
        for lane in self._lanes:
            await js.add_consumer(
                self.subjects.stream,
                api.ConsumerConfig(
                    name=consumer_name(self._type, lane),
                    durable_name=consumer_name(self._type, lane),
                    filter_subject=self.subjects.work(self._type, lane),
                    ack_policy=api.AckPolicy.EXPLICIT,
                    ack_wait=self.ack_wait,
                    max_deliver=-1,  # the last word is a final event, which only a worker can say
                    max_ack_pending=MAX_ACK_PENDING,
                    max_waiting=2048,
                ),
            )

    async def _on_cancel(self, message: Msg) -> None:
        parsed = self.subjects.parse(message.subject)
        run = self._running.get(parsed[1]) if parsed else None
        if run is not None:
            run.cancel()

    async def _slot(self) -> None:
        """One job after the other; nothing that happens to one may end it."""
        while not self.stopping.is_set():
            client = await self.connection.wait()
            try:
                message = await self._take(client)
            except (nats.errors.Error, TimeoutError, NotConnected) as error:
                _log.info("no job could be asked for", extra={"fields": {"error": str(error)}})
                await asyncio.sleep(RETRY)
                await self._repair(client)
                continue
            if message is not None:
                try:
                    await self._work(message)
                except Exception:  # noqa: BLE001 - the job is delivered again, and counted
                    _log.exception("a job could not be worked on")

    async def _repair(self, client: Client) -> None:
        """The consumers may be gone: the stream was deleted and made again."""
        with contextlib.suppress(nats.errors.Error, TimeoutError):
            await self._make_consumers(client)

    async def _work(self, message: Msg) -> None:
        parsed = self.subjects.parse(message.subject)
        if parsed is None:
            await message.term()
            return
        job_id = parsed[1]
        running = self._running.get(job_id)
        if running is not None:  # the server did not hear of it in time: it is the same work
            running.adopt(message)
            return
        run = self._running[job_id] = Run(self, job_id, message)
        try:
            await run.execute()
        finally:
            del self._running[job_id]

    async def _take(self, client: Client) -> Msg | None:
        """The next job: what waits, in the order of the lanes, or whatever comes first."""
        if len(self._lanes) > 1:
            for lane in self._lanes:
                message = await self._ask(client, (lane,), {"no_wait": True}, API_TIMEOUT)
                if message is not None:
                    return message
        wish = {"expires": int(PULL * 1e9), "idle_heartbeat": int(PULL / 4 * 1e9)}
        return await self._ask(client, self._lanes, wish, PULL + API_TIMEOUT)

    async def _ask(
        self, client: Client, asked: tuple[str, ...], wish: dict[str, Any], timeout: float
    ) -> Msg | None:
        """Asks these lanes for one job. A second one that comes meanwhile is given back."""
        first: asyncio.Future[Msg | None] = asyncio.get_running_loop().create_future()
        empty = 0

        async def receive(message: Msg) -> None:
            nonlocal empty
            headers = message.headers or {}
            status = headers.get("Status")
            if status is None and message.reply:
                if first.done():
                    await message.nak()
                else:
                    first.set_result(message)
            elif status in ("404", "408"):  # none there
                empty += 1
                if empty == len(asked) and not first.done():
                    first.set_result(None)
            elif status != "100" and not first.done():
                first.set_exception(nats.errors.Error(headers.get("Description", status)))

        inbox = client.new_inbox()
        subscription = await client.subscribe(inbox, cb=receive)
        try:
            for lane in asked:
                name = consumer_name(self._type, lane)
                subject = f"$JS.API.CONSUMER.MSG.NEXT.{self.subjects.stream}.{name}"
                await client.publish(subject, orjson.dumps({"batch": 1, **wish}), inbox)
            deadline = asyncio.get_running_loop().time() + timeout
            while not first.done():
                left = deadline - asyncio.get_running_loop().time()
                if left <= 0 or not client.is_connected:
                    raise TimeoutError
                await asyncio.wait((first,), timeout=min(left, RETRY))
            return first.result()
        except asyncio.CancelledError:
            if first.done() and not first.exception() and (message := first.result()):
                self._aside(message.nak())
            raise
        finally:
            first.cancel()  # whatever comes now is given back
            self._aside(_drain(subscription))

    def _aside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._side_tasks.add(task)
        task.add_done_callback(self._side_tasks.discard)


async def _drain(subscription: Any) -> None:
    """Asks the server to send no more, and waits for what was already on its way."""
    with contextlib.suppress(nats.errors.Error, TimeoutError):
        async with asyncio.timeout(API_TIMEOUT):
            await subscription.drain()
