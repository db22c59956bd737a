"""The recent jobs in memory, as the stream's messages tell them, under a bound. Pure.

``take`` is given every message in the stream's order and nothing else changes a job, so two
gateways that have read the same messages hold the same jobs. What is held is bounded by a number
of jobs, each of at most a few KiB (long results stay in the stream, ``KEEP_DETAILS``); when there
are more, the job that ended first goes first, and the oldest one when none has ended. Jobs whose
submit message is past the stream's retention go too, because the stream has forgotten them.

Listings go by age, through an ``Order`` of all jobs or through the one of a user's jobs.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Final, Literal, NamedTuple

from siger_gateway.jobs.status import (
    QUEUED,
    Event,
    JobState,
    cancel_requested,
    reported,
    submitted,
)

Verdict = Literal["legal", "illegal", "repeated", "orphan"]
"""What became of a message: applied; ignored; a cancel request once more; its job not in memory."""

_SLACK: Final = 1024
"""Dropped entries that the order of all jobs may hold before it is written anew, beside as many as
there are jobs."""
_USER_SLACK: Final = 8
"""The same for the order of one user's jobs."""

_by_seq = attrgetter("seq")


class Outcome(NamedTuple):
    """What ``take`` made of a message. ``event`` is None where the message was no event."""

    verdict: Verdict
    event: Event | None


class Order:
    """Jobs by sequence. Dropped ones stay until there are ``slack`` more of them than of others,
    so that to drop one costs no search."""

    __slots__ = ("_head", "_slack", "jobs", "live")

    def __init__(self, slack: int) -> None:
        self.jobs: list[JobState] = []
        self.live = 0
        """How many are not dropped."""
        self._head = 0  # entries before this one are dropped
        self._slack = slack

    def append(self, job: JobState) -> None:
        self.jobs.append(job)
        self.live += 1

    def dropped(self) -> None:
        """One of the jobs has been."""
        self.live -= 1
        if len(self.jobs) > 2 * self.live + self._slack:
            self.jobs = [kept for kept in self.jobs if not kept.dropped]
            self._head = 0

    def oldest(self) -> JobState | None:
        jobs = self.jobs
        while self._head < len(jobs):
            if not jobs[self._head].dropped:
                return jobs[self._head]
            self._head += 1
        return None

    def newest(
        self, wanted: Callable[[JobState], bool], before: int | None, scan: int
    ) -> Iterator[JobState | None]:
        """See ``Projection.newest``."""
        while True:
            jobs = self.jobs
            index = len(jobs) if before is None else bisect_left(jobs, before, key=_by_seq)
            stop = max(self._head, index - scan)
            piece = jobs[stop:index]
            if not piece:
                return
            before = piece[0].seq  # where to go on, also when the order is compacted meanwhile
            for job in reversed(piece):
                if not job.dropped and wanted(job):
                    yield job
            if stop <= self._head:
                return
            yield None


class Projection:
    """Jobs by id, by age, and by user and age.

    :param limit: jobs that are held.
    :param max_age: seconds after which the stream forgets a message.
    :param keep_details: bytes of result and error that are held per job.
    """

    def __init__(self, limit: int, max_age: float, keep_details: int) -> None:
        self._limit = limit
        self._max_age = max_age
        self._keep_details = keep_details
        self._jobs: dict[str, JobState] = {}
        self._order = Order(_SLACK)
        self._users: dict[str, Order] = {}
        self._ended: deque[JobState] = deque()  # in the order in which they ended

    def __len__(self) -> int:
        return len(self._jobs)

    def get(self, job_id: str) -> JobState | None:
        return self._jobs.get(job_id)

    def take(self, kind: str, job_id: str, data: bytes, seq: int, stored_at: float) -> Outcome:
        """Applies one message.

        :param kind: ``submit``, ``status`` or ``cancel``.
        :param stored_at: seconds since 1970.
        """
        job = self._jobs.get(job_id)
        if kind == "submit":
            if job is not None:
                return Outcome("illegal", None)
            job = submitted(job_id, data, seq, stored_at)
            self._add(job)
            return Outcome("legal", Event(seq, QUEUED, job.timestamp))
        read = cancel_requested if kind == "cancel" else reported
        event = read(data, seq, stored_at)
        if job is None:
            return Outcome("orphan", event)
        if event is None:
            return Outcome("illegal", None)
        if not job.apply(event, self._keep_details):
            is_repeated = kind == "cancel" and event.status == job.status
            return Outcome("repeated" if is_repeated else "illegal", event)
        if job.is_terminal:
            self._ended.append(job)
        return Outcome("legal", event)

    def expire(self, now: float) -> None:
        """Drops the jobs that the stream has forgotten. ``now``: seconds since 1970."""
        forgotten = now - self._max_age
        while (oldest := self._order.oldest()) is not None and oldest.stored_at < forgotten:
            self._drop(oldest)

    def newest(
        self,
        owner: str | None,
        wanted: Callable[[JobState], bool],
        before: int | None,
        scan: int,
    ) -> Iterator[JobState | None]:
        """The wanted jobs, newest first.

        :param owner: only this user's jobs, and no other one is looked at; None: everybody's.
        :param before: only jobs with a smaller sequence than this.
        :param scan: after as many jobs were looked at, None is yielded once, for the caller to
            let others work; the iteration survives whatever changes meanwhile.
        """
        order = self._order if owner is None else self._users.get(owner)
        return iter(()) if order is None else order.newest(wanted, before, scan)

    def clear(self) -> None:
        """Forgets everything: the stream is another one."""
        self._jobs.clear()
        self._order = Order(_SLACK)
        self._users.clear()
        self._ended.clear()

    def _add(self, job: JobState) -> None:
        self._jobs[job.job_id] = job
        self._order.append(job)
        order = self._users.get(job.user_id)
        if order is None:
            order = self._users[job.user_id] = Order(_USER_SLACK)
        order.append(job)
        while len(self._jobs) > self._limit:
            while self._ended and self._ended[0].dropped:
                self._ended.popleft()
            victim = self._ended.popleft() if self._ended else self._order.oldest()
            if victim is None:
                return
            self._drop(victim)

    def _drop(self, job: JobState) -> None:
        job.dropped = True
        del self._jobs[job.job_id]
        self._order.dropped()
        order = self._users[job.user_id]
        order.dropped()
        if not order.live:
            del self._users[job.user_id]
        if len(self._ended) > 2 * len(self._jobs) + _SLACK:
            self._ended = deque(kept for kept in self._ended if not kept.dropped)
