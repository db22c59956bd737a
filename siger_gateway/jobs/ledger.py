"""The jobs as last seen in the stream, and the questions that clients ask about them.

A background reader feeds every message of the stream to the projection in memory. Answers come
from there; what is not there (older than the bound, or submitted through another gateway a
millisecond ago) is read from the stream. What this gateway has stored itself is seen by its next
answer: an answer waits until the reader has come to the last sequence that was confirmed here.
While NATS is away the known jobs are still answered, as they were.

Every question is put by an ``Actor`` and answered from the jobs that this one may see. A job of
somebody else is looked for in the stream, as one that does not exist, and as little is found.

Who waits for news of a job holds a ``Watch``: a bounded list of its events. When it overflows, or
when the job is not in memory, the watch only notes that something was lost, and the events are
read from the stream again; so a slow reader costs a bounded amount of memory and misses nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Final

import orjson

from siger_gateway.errors import GatewayError
from siger_gateway.jobs.connection import end
from siger_gateway.jobs.job import no_such_job
from siger_gateway.jobs.ownership import Actor
from siger_gateway.jobs.projection import Outcome, Projection
from siger_gateway.jobs.queue import KEEP_DETAILS, JobQueue, unavailable
from siger_gateway.jobs.reader import Reader
from siger_gateway.jobs.status import CANCELLING, QUEUED, TERMINAL, Event, JobState, submitted
from siger_gateway.jobs.stream import event_of
from siger_gateway.telemetry.metrics import Metrics

SETTLE_TIMEOUT: Final = 1.0
"""Seconds that an answer waits for this gateway's own writes to come back from the stream."""
WATCH_EVENTS: Final = 256
"""Events that wait for one reader before they are read from the stream again instead."""
SCAN: Final = 2000
"""Jobs that a listing looks at before others may work: well below a millisecond."""
WARN_EVERY: Final = 10.0
"""Seconds between warnings about illegal events."""

_log = logging.getLogger(__name__)


class Watch:
    """News of one job. ``lost`` says that ``events`` is not all of it (true at first).

    :param job: the job as it stood when the watch began.
    :param actor: who watches, and may see the job.
    """

    __slots__ = ("_news", "actor", "closed", "events", "job", "lost")

    def __init__(self, job: JobState, actor: Actor) -> None:
        self.job = job
        self.actor = actor
        self.events: deque[Event] = deque()
        self.lost = True
        self.closed = False
        self._news = asyncio.Event()

    def push(self, outcome: Outcome) -> None:
        """Takes what became of a message about the job."""
        if self.lost or outcome.verdict == "orphan" or len(self.events) >= WATCH_EVENTS:
            self.lose()
        elif outcome.verdict == "legal" and outcome.event is not None:
            self.events.append(outcome.event)
            self._news.set()

    def lose(self) -> None:
        """The events have to be read from the stream again."""
        self.events.clear()
        self.lost = True
        self._news.set()

    def close(self) -> None:
        """Who waits here is answered now, whatever the news; may be called at any time."""
        self.closed = True
        self._news.set()

    def clear(self) -> None:
        """From now on ``events`` is all that is new."""
        self.events.clear()
        self.lost = False
        self._news.clear()

    async def wait(self, timeout: float) -> bool:
        """Waits for news that came after the last ``wait``; False: none in ``timeout`` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._news.wait()
        except TimeoutError:
            return False
        self._news.clear()
        return True


class Ledger:
    """What is known of jobs.

    :param queue: where they are stored; has to be started by its owner.
    """

    def __init__(self, queue: JobQueue, metrics: Metrics) -> None:
        config = queue.config
        self._queue = queue
        self._metrics = metrics
        self._jobs = Projection(config.ledger_jobs, config.max_age, KEEP_DETAILS)
        self._reader = Reader(queue, self._apply, self._reset)
        self._watches: dict[str, set[Watch]] = {}
        self._released = False
        self._task: asyncio.Task[None] | None = None
        self._illegal = 0
        self._warned = -WARN_EVERY
        metrics.gauge(
            "siger_ledger_jobs", "Jobs in memory.", (), lambda: [((), float(len(self._jobs)))]
        )

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def ready(self) -> bool:
        """Whether the stream has been read to its end once."""
        return self._reader.complete

    @property
    def live(self) -> bool:
        """Whether the stream is being followed now."""
        return self._reader.live

    def start(self) -> None:
        """Reads the stream in the background; returns at once."""
        if self._task is None:
            self._task = asyncio.create_task(self._reader.run(), name="ledger")

    def release(self) -> None:
        """For a drain: whoever waits for news gets an answer now, event streams end."""
        self._released = True
        for watches in self._watches.values():
            for watch in watches:
                watch.close()

    async def close(self) -> None:
        """Stops reading."""
        self.release()
        if self._task is not None:
            await end([self._task])

    async def get(self, job_id: str, actor: Actor) -> JobState:
        """A job as it stands now.

        :param job_id: in canonical form, from ``parse_job_id``.
        :raises GatewayError: ``not_found``, also when ``actor`` may not see it;
            ``queue_unavailable``: not known here, and the stream cannot be asked.
        """
        is_settled = await self._settle()
        job = self._jobs.get(job_id) if is_settled and self.ready else None
        if job is None or not actor.may_see(job):
            # For a foreign job too, so that it takes as long as one that does not exist, and
            # cannot be told from it while NATS is away.
            job = await self._queue.find(job_id, actor)
        if job is None:
            raise no_such_job()
        return job

    def at_hand(self, job_id: str, actor: Actor) -> JobState | None:
        """A job as it stands now, if that is known without waiting and ``actor`` may see it; None
        says nothing, ``get`` has to be asked.

        Of what this gateway has stored itself, only cancel requests change a job that is in memory.
        """
        if not self.ready or self._queue.cancelled_seq > self._reader.position.seq:
            return None
        self._jobs.expire(time.time())
        job = self._jobs.get(job_id)
        return job if job is not None and actor.may_see(job) else None

    async def details(self, job: JobState) -> dict[str, Any]:
        """``result`` and ``error`` of a job, those that there are.

        :raises GatewayError: ``queue_unavailable``: they are long, and the stream cannot be asked.
        """
        data = job.details
        if job.details_seq:
            message = await self._queue.message_at(job.details_seq)
            event = event_of(self._queue.subjects, message) if message else None
            data = event.details if event else b""
        return orjson.loads(data) if data else {}

    async def list(
        self,
        actor: Actor,
        *,
        limit: int,
        before: int | None = None,
        statuses: frozenset[str] = frozenset(),
        types: frozenset[str] = frozenset(),
        tags: frozenset[str] = frozenset(),
        users: frozenset[str] = frozenset(),
    ) -> tuple[list[JobState], int | None]:
        """The newest jobs in memory that match and that ``actor`` may see, and where the next page
        begins (None: nowhere).

        :param before: only jobs submitted before the one with this sequence.
        :param statuses: one of these; empty: any. ``types`` and ``users`` likewise.
        :param tags: all of these.
        :raises GatewayError: ``ledger_not_ready`` or ``queue_unavailable``.
        """
        if not self.ready:
            if not self._queue.connected:
                raise unavailable("The job queue cannot be read now.")
            raise GatewayError("ledger_not_ready", headers={"Retry-After": "1"})
        await self._settle()

        # Of all conditions the one that leaves the fewest, and that most listings have.
        owner = next(iter(users)) if actor.sees is None and len(users) == 1 else actor.sees

        def wanted(job: JobState) -> bool:
            return (
                (not users or job.user_id in users)
                and (not statuses or job.status in statuses)
                and (not types or job.type in types)
                and (not tags or tags.issubset(job.tags))
            )

        page: list[JobState] = []
        for job in self._jobs.newest(owner, wanted, before, SCAN):
            if job is None:
                await asyncio.sleep(0)
            elif len(page) == limit:
                return page, page[-1].seq
            else:
                page.append(job)
        return page, None

    async def cancel(self, job_id: str, actor: Actor) -> JobState:
        """Asks, in the name of ``actor``, for a job to be cancelled; once more does nothing more.

        :raises GatewayError: ``conflict``: it has ended; or as ``get`` and ``JobQueue.submit``.
        """
        job = await self.get(job_id, actor)
        if not job.is_terminal and job.status != CANCELLING:
            seq = await self._queue.cancel(job_id, user_id=actor.user_id)
            job = await self.get(job_id, actor)
            if job.is_terminal and job.event_seq > seq:  # it ended after the request: accepted
                return job
        if job.is_terminal:
            raise GatewayError("conflict", f"The job has ended: it is {job.status}.")
        return job

    async def changed(self, watch: Watch, seen: int | None, timeout: float) -> JobState:
        """The watched job once it has changed, or as it is after ``timeout`` seconds.

        :param seen: the ``event_seq`` that the caller knows; None: the present one.
        :raises GatewayError: as ``get``.
        """
        deadline = asyncio.get_running_loop().time() + timeout
        watch.clear()
        job = await self.get(watch.job.job_id, watch.actor)
        if seen is None:
            seen = job.event_seq
        while job.event_seq == seen and not job.is_terminal and not watch.closed:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0 or not await watch.wait(left):
                break
            watch.events.clear()
            job = await self.get(watch.job.job_id, watch.actor)
        return job

    async def events(
        self, watch: Watch, after: int, idle: float
    ) -> AsyncGenerator[Event | None, None]:
        """The legal events of the watched job after a sequence, and those to come; ends with the
        job, or with the watch.

        None is yielded when the past has been told, and after every ``idle`` seconds of silence.

        :raises GatewayError: ``not_found``, ``queue_unavailable``.
        """
        while not watch.closed:
            if watch.lost:
                watch.clear()
                before = after
                try:
                    async with contextlib.aclosing(self._past(watch)) as past:
                        async for event in past:
                            if event.seq > after:
                                after = event.seq
                                yield event
                            if event.status in TERMINAL:
                                return
                except GatewayError:
                    if after == before:
                        raise
                    watch.lost = True  # a slow client outlasted the reading: go on from here
                    continue
                yield None
            while watch.events:
                event = watch.events.popleft()
                if event.seq > after:
                    after = event.seq
                    yield event
                if event.status in TERMINAL:
                    return
            if not watch.lost and not watch.closed and not await watch.wait(idle):
                yield None

    @contextlib.asynccontextmanager
    async def watch(self, job_id: str, actor: Actor) -> AsyncIterator[Watch]:
        """Collects the events of a job from now on, for as long as the context lasts.

        :raises GatewayError: as ``get``, before anything is collected.
        """
        watch = Watch(await self.get(job_id, actor), actor)
        watch.closed = self._released
        self._watches.setdefault(job_id, set()).add(watch)
        try:
            yield watch
        finally:
            watches = self._watches[job_id]
            watches.discard(watch)
            if not watches:
                del self._watches[job_id]

    async def _past(self, watch: Watch) -> AsyncGenerator[Event, None]:
        """The legal events of the watched job that are stored now."""
        job_id = watch.job.job_id
        job: JobState | None = None
        async with contextlib.aclosing(self._queue.job_messages(job_id)) as messages:
            async for message in messages:
                if job is None:
                    job = submitted(job_id, message.data, message.seq, message.stored_at)
                    if not watch.actor.may_see(job):  # the stream is another one
                        raise no_such_job()
                    yield Event(message.seq, QUEUED, job.timestamp)
                    continue
                event = event_of(self._queue.subjects, message)
                if event is not None and job.apply(event, 0):
                    yield event
        if job is None:
            raise no_such_job()

    async def _settle(self) -> bool:
        """Waits for this gateway's own writes; False: the memory lacks some and the stream does
        not. While NATS is away what is known has to do."""
        self._jobs.expire(time.time())
        if self._queue.acked_seq <= self._reader.position.seq:
            return True
        has_come = await self._reader.reached(self._queue.acked_seq, SETTLE_TIMEOUT)
        return has_come or not self._queue.connected

    def _apply(self, subject: bytes, data: bytes, seq: int, stored_at: float) -> None:
        parsed = self._queue.subjects.parse(subject.decode())
        if parsed is None:
            return
        kind, job_id = parsed
        try:
            outcome = self._jobs.take(kind, job_id, data, seq, stored_at)
        except Exception:  # noqa: BLE001 - one message must not stop all that come after it
            _log.exception(
                "a message of the job stream was skipped", extra={"fields": {"seq": seq}}
            )
            return
        if self.ready:  # what the first reading finds was counted by those that were there
            self._count(job_id, outcome)
        if job_id in self._watches:
            for watch in self._watches[job_id]:
                watch.push(outcome)

    def _count(self, job_id: str, outcome: Outcome) -> None:
        if outcome.verdict == "legal" and outcome.event is not None:
            self._metrics.job_events[outcome.event.status] += 1
            return
        self._metrics.job_events[outcome.verdict] += 1
        if outcome.verdict != "illegal":
            return
        self._illegal += 1
        now = time.monotonic()
        if now - self._warned >= WARN_EVERY:
            fields = {"count": self._illegal, "last_job_id": job_id}
            _log.warning("illegal job events were ignored", extra={"fields": fields})
            self._warned, self._illegal = now, 0

    def _reset(self) -> None:
        self._jobs.clear()
        for watches in self._watches.values():
            for watch in watches:
                watch.lose()
