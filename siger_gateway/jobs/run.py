"""One job in a worker, from its delivery to its acknowledgement.

    look it up ─> processing ─> the handler ─> final event ─> acknowledge

While the handler runs, three things may happen beside it: the time for the next sign of life, a
cancel request, the end of the worker. ``execute`` waits for whichever comes first.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import nats.errors
import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg

from siger_gateway.jobs import stream
from siger_gateway.jobs.connection import Connection, NoAnswer, NotConnected
from siger_gateway.jobs.ownership import UNRESTRICTED
from siger_gateway.jobs.status import (
    CANCELLED,
    CANCELLING,
    COMPLETED,
    FAILED,
    PROCESSING,
    JobState,
)
from siger_gateway.telemetry.log import utc_timestamp

ACK_WAIT: Final = 30.0
"""Seconds without a sign of life after which the server gives a job to another worker."""
EVENT_TIMEOUT: Final = 5.0
"""Seconds for the confirmation of one event."""
RETRY: Final = 0.5
"""Seconds before an event is sent again."""
PROGRESS_EVERY: Final = 0.5
"""Seconds between progress events at least; what comes faster is summed up by the next one."""
MAX_ERROR: Final = 4096
"""Characters of an error text."""
MAX_RESULT: Final = 900_000
"""Bytes of a result: it has to fit into one NATS message (1 MiB) with its event."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """What a handler is given. ``document`` is the whole job message; ``attempt`` counts from 1."""

    id: str
    type: str
    name: str
    params: dict[str, Any]
    attempt: int
    document: dict[str, Any]


class JobContext:
    """What a handler can say and ask while it runs."""

    def __init__(self, run: Run) -> None:
        self._run = run

    @property
    def cancelled(self) -> bool:
        """Whether somebody asked for the job to be cancelled."""
        return self._run.cancel_requested.is_set()

    async def wait_cancelled(self) -> None:
        """Returns when somebody asks for the job to be cancelled."""
        await self._run.cancel_requested.wait()

    async def progress(self, percent: float, message: str = "") -> None:
        """Reports progress, 0 to 100. Calls in quick succession become one event; while NATS is
        away nothing is sent and nothing is raised."""
        await self._run.progress(percent, message)

    def log(self, message: str, **fields: object) -> None:
        """Writes a line to the worker's log, with the job's id."""
        line = {"job_id": self._run.job_id, **fields}
        logging.getLogger("siger.job").info(message, extra={"fields": line})


Handler = Callable[[Job, JobContext], Awaitable[Any]]


class Host(Protocol):
    """What a run needs of its worker."""

    name: str
    subjects: stream.Subjects
    connection: Connection
    handler: Handler
    cancel_grace: float
    max_attempts: int
    ack_wait: float


class Run:
    """One delivery of one job.

    :param message: the delivered submit message; its acknowledgement is this class's affair.
    """

    def __init__(self, host: Host, job_id: str, message: Msg) -> None:
        self.job_id = job_id
        self.slot = asyncio.current_task()
        self.cancel_requested = asyncio.Event()
        self._host = host
        self._message = message
        self._reply = message.reply
        self._attempt = stream.delivery(message.reply).attempt
        self._taken_at = utc_timestamp()
        self._started_at = ""
        self._told = -PROGRESS_EVERY
        self._side_tasks: set[asyncio.Task[None]] = set()

    def cancel(self) -> None:
        """Somebody asked for it."""
        self.cancel_requested.set()

    def adopt(self, message: Msg) -> None:
        """The server delivered the job again while it is running here: acknowledge that one."""
        self._reply = message.reply
        self._aside(self._sign())

    def reconnected(self) -> None:
        """There is a new connection: say that the work goes on, and see what was missed."""
        self._aside(self._sign())
        self._aside(self._look_for_cancel())

    async def execute(self) -> None:
        """Runs the job to its acknowledgement. Interrupted, it gives the job back."""
        try:
            state = await self._look_up()
            if state is None or state.is_terminal:  # forgotten, or another worker was faster
                await self._acknowledge(b"+ACK")
                return
            await self._process(state)
            await self._acknowledge(b"+ACK")
        except asyncio.CancelledError:
            with contextlib.suppress(NotConnected, nats.errors.Error):
                await self._acknowledge(b"-NAK")
            raise
        finally:
            for task in self._side_tasks:
                task.cancel()

    async def _process(self, state: JobState) -> None:
        """Runs the handler and stores the final event."""
        if state.status == CANCELLING or self.cancel_requested.is_set():
            return await self._report_cancelled("Job cancelled before it started")
        if self._attempt > self._host.max_attempts:
            error = f"given up after {self._host.max_attempts} attempts"
            return await self._report(FAILED, error=error)
        self._started_at = utc_timestamp()
        await self._report(PROCESSING, progress=0)
        try:
            document = orjson.loads(self._message.data)
            job = Job(
                self.job_id,
                str(document["type"]),
                str(document["name"]),
                document.get("params") or {},
                self._attempt,
                document,
            )
        except (ValueError, KeyError, TypeError):
            return await self._report(FAILED, error="the job document is not readable")
        work = asyncio.create_task(self._call(job))
        try:
            await self._attend(work)
        finally:
            if not work.done():
                work.cancel()
                await asyncio.wait((work,), timeout=self._host.cancel_grace)
        return await self._report_end(work)

    async def _call(self, job: Job) -> Any:
        return await self._host.handler(job, JobContext(self))

    async def _attend(self, work: asyncio.Future[Any]) -> None:
        """Waits for the handler; signs of life meanwhile; interrupts it after a cancel request."""
        loop = asyncio.get_running_loop()
        asked = asyncio.ensure_future(self.cancel_requested.wait())
        interrupt_at: float | None = None
        try:
            while not work.done():
                pause = self._host.ack_wait / 3
                if interrupt_at is not None:
                    pause = min(pause, max(0.0, interrupt_at - loop.time()))
                waited = {work} if interrupt_at is not None else {work, asked}
                await asyncio.wait(waited, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                if asked.done() and interrupt_at is None:
                    interrupt_at = loop.time() + self._host.cancel_grace
                elif interrupt_at is not None and loop.time() >= interrupt_at:
                    work.cancel()
                    interrupt_at = loop.time() + self._host.cancel_grace
                await self._sign()
        finally:
            asked.cancel()

    async def _report_end(self, work: asyncio.Future[Any]) -> None:
        """The final event: however a handler ends after a cancel request, it is cancelled."""
        error = None if work.cancelled() else work.exception()
        if self.cancel_requested.is_set():
            return await self._report_cancelled("")
        if work.cancelled():
            return await self._report(FAILED, error="the handler cancelled itself")
        if error is not None:
            is_told = isinstance(error, JobFailed)
            fields = {"job_id": self.job_id, "error": str(error)}
            trace = None if is_told else error
            _log.warning("a job failed", exc_info=trace, extra={"fields": fields})
            text = str(error) if is_told else f"{type(error).__name__}: {error}"
            text = text[:MAX_ERROR].encode(errors="replace").decode()  # no lone surrogates in JSON
            return await self._report(FAILED, error=text)
        result = work.result()
        try:
            size = len(self._event(COMPLETED, result=result))
        except TypeError:
            return await self._report(FAILED, error="the result cannot be written as JSON")
        if size > MAX_RESULT:
            return await self._report(FAILED, error=f"the result has {size} bytes, too many")
        return await self._report(COMPLETED, progress=100, result=result)

    async def progress(self, percent: float, message: str) -> None:
        """See ``JobContext.progress``. Not confirmed: the next one says more."""
        now = asyncio.get_running_loop().time()
        if now - self._told < PROGRESS_EVERY:
            return
        self._told = now
        percent = min(100.0, max(0.0, float(percent)))
        event = self._event(PROCESSING, message=message, progress=percent)
        with contextlib.suppress(NotConnected, nats.errors.Error):
            client = self._host.connection.client()
            await client.publish(self._host.subjects.status(self.job_id), event)

    def _event(self, status: str, **fields: Any) -> bytes:
        now = utc_timestamp()
        event = {
            "job_id": self.job_id,
            "status": status,
            "message": "",
            "timestamp": now,
            "worker": self._host.name,
            **({"started_at": self._started_at} if self._started_at else {}),
            **({"ended_at": now} if status in (COMPLETED, FAILED, CANCELLED) else {}),
            **fields,
        }
        return orjson.dumps(event)

    async def _report_cancelled(self, message: str) -> None:
        """``cancelled`` is legal only after the request. That may have reached this worker before
        it reached the stream, so it is stored here too: the same id, so it is there once."""
        request = {"job_id": self.job_id, "timestamp": utc_timestamp()}
        subject = self._host.subjects.cancel(self.job_id)
        await self._store(subject, orjson.dumps(request), stream.cancel_message_id(self.job_id))
        await self._report(CANCELLED, message=message)

    async def _report(self, status: str, **fields: Any) -> None:
        """Stores an event, however long it takes."""
        subject = self._host.subjects.status(self.job_id)
        # The same id for every attempt to send it, another one for another delivery of the job.
        message_id = f"{self.job_id}-{self._attempt}-{self._taken_at}-{status}"
        try:
            await self._store(subject, self._event(status, **fields), message_id)
        except nats.errors.MaxPayloadError:
            too_large = self._event(FAILED, error="the event is larger than NATS takes")
            await self._store(subject, too_large, message_id)

    async def _store(self, subject: str, payload: bytes, message_id: str) -> None:
        """Publishes until the stream has confirmed it."""
        headers = {"Nats-Msg-Id": message_id}
        while True:
            await self._host.connection.wait()
            try:
                answer = await self._host.connection.request(
                    subject, payload, EVENT_TIMEOUT, headers
                )
                refusal = orjson.loads(answer).get("error")
                if refusal is None:
                    return
                problem = str(refusal.get("description"))
            except nats.errors.MaxPayloadError:
                raise
            except (NotConnected, NoAnswer, nats.errors.Error) as error:
                problem = str(error) or type(error).__name__
            fields = {"job_id": self.job_id, "subject": subject, "problem": problem}
            _log.info("an event is sent again", extra={"fields": fields})
            await asyncio.sleep(RETRY)
            await self._sign()

    async def _look_up(self) -> JobState | None:
        """The job's state before anything is done; None: the stream has forgotten it."""
        while True:
            client = await self._host.connection.wait()
            try:
                if self._attempt == 1:
                    last = await stream.last_event(client, self._host.subjects, self.job_id)
                    if last is None:
                        return JobState(self.job_id, 1, 0.0)
                return await self._read(client)
            except (nats.errors.Error, TimeoutError, NotConnected):
                await asyncio.sleep(RETRY)

    async def _look_for_cancel(self) -> None:
        with contextlib.suppress(nats.errors.Error, TimeoutError, NotConnected):
            client = await self._host.connection.wait()
            state = await self._read(client)
            if state is not None and state.status == CANCELLING:
                self.cancel()

    async def _read(self, client: Client) -> JobState | None:
        return await stream.read_job(client, self._host.subjects, self.job_id, 0, UNRESTRICTED)

    async def _sign(self) -> None:
        """A sign of life; without a connection there is nobody to hear it."""
        with contextlib.suppress(NotConnected, nats.errors.Error):
            await self._host.connection.client().publish(self._reply, b"+WPI")

    async def _acknowledge(self, answer: bytes) -> None:
        """Tells the server what became of the delivery. If it gets lost the job is delivered once
        more, and found finished."""
        with contextlib.suppress(NotConnected, nats.errors.Error):
            client = self._host.connection.client()
            await client.publish(self._reply, answer)
            await client.flush(timeout=EVENT_TIMEOUT)

    def _aside(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._side_tasks.add(task)
        task.add_done_callback(self._side_tasks.discard)


class JobFailed(Exception):
    """Raised by a handler: the job failed, and the text is for whoever submitted it."""
