"""The recent jobs in memory, as the stream's messages tell them, under a bound. Pure.

``take`` is given every message in the stream's order and nothing else changes a job, so two
gateways that have read the same messages hold the same jobs. What is held is bounded by a number
of jobs, each of at most a few KiB (long results stay in the stream, ``KEEP_DETAILS``); when there
are more, the job that ended first goes first, and the oldest one when none has ended. Jobs whose
submit message is past the stream's retention go too, because the stream has forgotten them.
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

_COMPACT_AT: Final = 1024
"""Dropped entries that the order may hold before it is written anew, beside as many as jobs."""

_by_seq = attrgetter("seq")


class Outcome(NamedTuple):
    """What ``take`` made of a message. ``event`` is None where the message was no event."""

    verdict: Verdict
    event: Event | None


class Projection:
    """Jobs by id and by age.

    :param limit: jobs that are held.
    :param max_age: seconds after which the stream forgets a message.
    :param keep_details: bytes of result and error that are held per job.
    """

    def __init__(self, limit: int, max_age: float, keep_details: int) -> None:
        self._limit = limit
        self._max_age = max_age
        self._keep_details = keep_details
        self._jobs: dict[str, JobState] = {}
        self._order: list[JobState] = []  # by seq; dropped ones stay until it is compacted
        self._head = 0  # entries of the order before this one are dropped
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
            job = self._jobs[job_id] = submitted(job_id, data, seq, stored_at)
            self._order.append(job)
            self._make_room()
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
        while (oldest := self._oldest()) is not None and oldest.stored_at + self._max_age < now:
            self._drop(oldest)

    def newest(
        self,
        owner: str | None,
        wanted: Callable[[JobState], bool],
        before: int | None,
        scan: int,
    ) -> Iterator[JobState | None]:
        """The wanted jobs, newest first.

        :param owner: only this user's jobs; None: everybody's. Of all conditions the one that
            leaves the fewest, and that most listings have: so it is looked at first, and without
            a call for every job.
        :param before: only jobs with a smaller sequence than this.
        :param scan: after as many jobs were looked at, None is yielded once, for the caller to
            let others work; the iteration survives whatever changes meanwhile.
        """
        while True:
            order = self._order
            index = len(order) if before is None else bisect_left(order, before, key=_by_seq)
            stop = max(self._head, index - scan)
            piece = order[stop:index]
            if not piece:
                return
            before = piece[0].seq  # where to go on, also when the order is compacted meanwhile
            if owner is not None:
                piece = [job for job in piece if job.user_id == owner]
            for job in reversed(piece):
                if not job.dropped and wanted(job):
                    yield job
            if stop <= self._head:
                return
            yield None

    def clear(self) -> None:
        """Forgets everything: the stream is another one."""
        self._jobs.clear()
        self._order = []
        self._head = 0
        self._ended.clear()

    def _make_room(self) -> None:
        while len(self._jobs) > self._limit:
            while self._ended and self._ended[0].dropped:
                self._ended.popleft()
            victim = self._ended.popleft() if self._ended else self._oldest()
            if victim is None:
                return
            self._drop(victim)

    def _oldest(self) -> JobState | None:
        order = self._order
        while self._head < len(order):
            if not order[self._head].dropped:
                return order[self._head]
            self._head += 1
        return None

    def _drop(self, job: JobState) -> None:
        job.dropped = True
        del self._jobs[job.job_id]
        if len(self._order) > 2 * len(self._jobs) + _COMPACT_AT:
            self._order = [kept for kept in self._order if not kept.dropped]
            self._head = 0
        if len(self._ended) > 2 * len(self._jobs) + _COMPACT_AT:
            self._ended = deque(kept for kept in self._ended if not kept.dropped)
