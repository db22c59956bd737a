"""The jobs in memory against a plain model that keeps everything, and its bound."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from siger_gateway.jobs.projection import Projection
from siger_gateway.jobs.status import JobState

MAX_AGE = 1000.0
LIMIT = 4


def projection(limit: int = 1000) -> Projection:
    return Projection(limit, MAX_AGE, 100)


def take(jobs: Projection, kind: str, job_id: str, seq: int, **document: Any) -> str:
    return jobs.take(kind, job_id, orjson.dumps(document), seq, float(seq)).verdict


def newest(jobs: Projection, before: int | None = None, scan: int = 100) -> list[str]:
    found = jobs.newest(None, lambda job: True, before, scan)
    return [job.job_id for job in found if job is not None]


@dataclass
class Model:
    """The rules once more, as sentences: one job, what it has been through."""

    seq: int
    status: str = "queued"
    event_seq: int = field(default=0)

    def move(self, to: str, seq: int) -> str:
        ended = self.status in ("completed", "failed", "cancelled")
        if to == "cancelling" and self.status == "cancelling":
            return "repeated"
        if ended or to == "queued":
            return "illegal"
        if to == "cancelled" and self.status != "cancelling":
            return "illegal"
        if to == "processing" and self.status == "cancelling":
            return "illegal"
        self.status, self.event_seq = to, seq
        return "legal"


class AgainstTheModel(RuleBasedStateMachine):
    """Any messages in any order, for a few jobs, with a bound of ``LIMIT`` jobs."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs = projection(LIMIT)
        self.model: dict[str, Model] = {}
        self.ended: list[str] = []
        self.seq = 0

    ids = st.sampled_from([f"job-{number}" for number in range(8)])

    @rule(job_id=ids)
    def submit(self, job_id: str) -> None:
        self.seq += 1
        verdict = take(self.jobs, "submit", job_id, self.seq, type="t")
        assert verdict == ("illegal" if job_id in self.model else "legal")
        if job_id in self.model:
            return
        self.model[job_id] = Model(self.seq, event_seq=self.seq)
        if len(self.model) > LIMIT:
            victim = self.ended[0] if self.ended else min(self.model, key=self._age)
            del self.model[victim]
            self.ended = [kept for kept in self.ended if kept != victim]

    @rule(
        job_id=ids,
        status=st.sampled_from(["queued", "processing", "completed", "failed", "cancelled"]),
    )
    def report(self, job_id: str, status: str) -> None:
        self._event("status", job_id, status)

    @rule(job_id=ids)
    def cancel(self, job_id: str) -> None:
        self._event("cancel", job_id, "cancelling")

    def _event(self, kind: str, job_id: str, status: str) -> None:
        self.seq += 1
        verdict = take(self.jobs, kind, job_id, self.seq, status=status)
        if job_id not in self.model:
            assert verdict == "orphan"
            return
        job = self.model[job_id]
        assert verdict == job.move(status, self.seq)
        if verdict == "legal" and job.status in ("completed", "failed", "cancelled"):
            self.ended.append(job_id)

    def _age(self, job_id: str) -> int:
        return self.model[job_id].seq

    @invariant()
    def the_same_jobs_in_the_same_states(self) -> None:
        assert len(self.jobs) == len(self.model)
        for job_id, expected in self.model.items():
            job = self.jobs.get(job_id)
            assert job is not None
            assert (job.status, job.event_seq) == (expected.status, expected.event_seq)
        by_age = sorted(self.model, key=self._age, reverse=True)
        assert newest(self.jobs) == newest(self.jobs, scan=1) == by_age


TestAgainstTheModel = AgainstTheModel.TestCase
TestAgainstTheModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_the_job_that_ended_first_makes_room() -> None:
    jobs = projection(2)
    take(jobs, "submit", "old", 1)
    take(jobs, "submit", "done", 2)
    take(jobs, "status", "done", 3, status="completed")
    take(jobs, "submit", "new", 4)
    assert newest(jobs) == ["new", "old"]


def test_without_an_ended_job_the_oldest_makes_room() -> None:
    jobs = projection(2)
    for seq, job_id in enumerate("abc", 1):
        take(jobs, "submit", job_id, seq)
    assert newest(jobs) == ["c", "b"]
    assert take(jobs, "status", "a", 4, status="processing") == "orphan"


def test_jobs_expire_with_the_retention_of_the_stream() -> None:
    jobs = projection()
    for seq in (1, 2, 3):
        take(jobs, "submit", str(seq), seq)
    jobs.expire(MAX_AGE + 2.5)
    assert newest(jobs) == ["3"]


def test_memory_stays_bounded_however_many_jobs_pass_through() -> None:
    jobs = projection(10)
    for seq in range(1, 20_000, 2):
        take(jobs, "submit", str(seq), seq)
        take(jobs, "status", str(seq), seq + 1, status="completed")
    assert len(jobs) == 10
    assert len(jobs._order.jobs) < 1100
    assert len(jobs._ended) < 1100


def test_memory_stays_bounded_however_many_users_pass_through() -> None:
    jobs = projection(10)
    for seq in range(1, 5000):
        take(jobs, "submit", str(seq), seq, user_id=f"u{seq % 700}")
    assert len(jobs._users) == 10
    assert sum(len(order.jobs) for order in jobs._users.values()) < 100


@given(st.integers(1, 30), st.integers(1, 7), st.integers(1, 5))
def test_pages_follow_each_other_without_gap_or_repetition(
    count: int, size: int, scan: int
) -> None:
    jobs = projection()
    for seq in range(1, count + 1):
        take(jobs, "submit", str(seq), seq)
    seen: list[str] = []
    before = None
    while page := newest(jobs, before, scan)[:size]:
        seen += page
        before = int(page[-1])
    assert seen == [str(seq) for seq in range(count, 0, -1)]


@given(
    st.lists(st.sampled_from(["u", "v", None]), max_size=30),
    st.integers(1, 7),
    st.integers(1, 5),
)
def test_the_pages_of_an_owner_are_those_of_all_jobs_without_the_others(
    users: list[str | None], size: int, scan: int
) -> None:
    jobs = projection()
    for seq, user in enumerate(users, 1):
        take(jobs, "submit", str(seq), seq, **({"user_id": user} if user else {}))
    seen: list[int] = []
    before = None
    while True:
        found = jobs.newest("u", lambda job: True, before, scan)
        page = [job.seq for job in found if job is not None][:size]
        if not page:
            break
        seen += page
        before = page[-1]
    assert seen == [seq for seq, user in reversed([*enumerate(users, 1)]) if user == "u"]


def test_a_search_lets_others_work_however_few_jobs_it_finds() -> None:
    jobs = projection()
    for seq in range(1, 31):
        take(jobs, "submit", str(seq), seq)
    found = [job and job.seq for job in jobs.newest(None, lambda job: job.seq == 4, None, 10)]
    assert found == [None, None, 4]


def test_a_search_for_a_users_jobs_looks_at_no_others() -> None:
    jobs = projection()
    for seq in range(1, 31):
        take(jobs, "submit", str(seq), seq, user_id="u" if seq % 10 == 4 else "v")
    seen: list[int] = []

    def wanted(job: JobState) -> bool:
        seen.append(job.seq)
        return True

    found = [job and job.seq for job in jobs.newest("u", wanted, None, 10)]
    assert found == seen == [24, 14, 4]
    assert list(jobs.newest("w", wanted, None, 10)) == []


def test_a_listing_survives_what_happens_while_it_rests() -> None:
    jobs = Projection(50, MAX_AGE, 100)
    for seq in range(1, 51):
        take(jobs, "submit", str(seq), seq)
    found: list[JobState] = []
    listing = jobs.newest(None, lambda job: True, None, 10)
    seq = 51
    for job in listing:
        if job is not None:
            found.append(job)
            continue
        for _ in range(5):  # the oldest go, new ones come
            take(jobs, "submit", str(seq), seq)
            seq += 1
    numbers = [job.seq for job in found]
    assert numbers == sorted(numbers, reverse=True)
    assert numbers[0] == 50
    assert len(set(numbers)) == len(numbers)


def test_clearing_forgets_everything() -> None:
    jobs = projection()
    take(jobs, "submit", "a", 1)
    jobs.clear()
    assert len(jobs) == 0
    assert newest(jobs) == []
    assert take(jobs, "submit", "a", 1) == "legal"
