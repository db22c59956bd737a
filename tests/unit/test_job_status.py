"""Events of a job: what workers and daemons say, and which moves are legal."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siger_gateway.jobs.status import (
    LEGAL,
    STATUSES,
    TERMINAL,
    Event,
    JobState,
    reported,
    submitted,
)


def told(**document: Any) -> Event:
    event = reported(orjson.dumps(document), 7, 1000.0)
    assert event is not None
    return event


def state(*statuses: str) -> JobState:
    job = JobState("id", 1, 1000.0)
    for seq, status in enumerate(statuses, 2):
        assert job.apply(Event(seq, status, 1000.0 + seq), 100), status
    return job


@pytest.mark.parametrize(
    "path",
    [
        ("processing", "completed"),
        ("processing", "processing", "failed"),
        ("cancelling", "cancelled"),
        ("processing", "cancelling", "cancelled"),
        ("processing", "cancelling", "completed"),
        ("failed",),
    ],
)
def test_legal_paths(path: tuple[str, ...]) -> None:
    job = state(*path)
    assert job.status == path[-1]
    assert job.event_seq == len(path) + 1


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ((), "cancelled"),
        ((), "queued"),
        (("processing",), "queued"),
        (("processing",), "cancelled"),
        (("processing", "cancelling"), "processing"),
        *((("processing", end), status) for end in ("completed", "failed") for status in STATUSES),
        *((("cancelling", "cancelled"), status) for status in STATUSES),
    ],
)
def test_illegal_moves_change_nothing(path: tuple[str, ...], status: str) -> None:
    job = state(*path)
    before = {name: getattr(job, name) for name in JobState.__slots__}
    assert not job.apply(Event(99, status, 5000.0, "late", 50.0, worker="w", details=b"{}"), 100)
    assert {name: getattr(job, name) for name in JobState.__slots__} == before


def test_every_state_is_in_the_table_and_only_terminal_ones_end_it() -> None:
    assert set(LEGAL) == set(STATUSES)
    assert {status for status in STATUSES if not LEGAL[status]} == TERMINAL


@pytest.mark.parametrize(
    ("word", "status"),
    [("preparing", "processing"), ("in_progress", "processing"), ("timeout", "failed")],
)
def test_words_of_the_daemons(word: str, status: str) -> None:
    assert told(status=word).status == status


@pytest.mark.parametrize("word", ["", "running", "QUEUED", None, 1, [], {}])
def test_a_message_without_a_known_status_is_no_event(word: object) -> None:
    assert reported(orjson.dumps({"status": word}), 1, 0.0) is None


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"null"])
def test_a_message_that_is_no_object_is_no_event(data: bytes) -> None:
    assert reported(data, 1, 0.0) is None


@pytest.mark.parametrize(
    ("document", "progress"),
    [
        ({"progress": 0.5}, 0.5),
        ({"progress": 0.5, "provider_id": "p"}, 50),
        ({"progress": 1, "provider_id": "p"}, 100),
        ({"progress": 40, "provider_id": "p"}, 40),
        ({"progress": 400}, 100),
        ({"progress": -1}, 0),
        ({"progress": True}, None),
        ({"progress": "50"}, None),
        ({}, None),
    ],
)
def test_progress_is_a_percentage(document: dict[str, Any], progress: float | None) -> None:
    assert told(status="processing", **document).progress == progress


def test_a_daemons_exit_code_and_log_are_its_result() -> None:
    event = told(status="failed", provider_id="p", exit_code=3, execution_log="oops")
    assert orjson.loads(event.details) == {
        "result": {"exit_code": 3, "execution_log": "oops"},
        "error": "exit code 3",
    }
    assert event.worker == "p"


def test_a_timeout_says_so() -> None:
    assert orjson.loads(told(status="timeout").details) == {"error": "timeout"}


def test_times_are_those_of_the_message_or_else_of_the_stream() -> None:
    assert told(status="processing").timestamp == 1000.0
    assert told(status="processing", timestamp="1970-01-01T00:00:05Z").timestamp == 5.0
    assert told(status="processing", timestamp="1970-01-01T00:00:05.123456789Z").timestamp > 5.1
    for nonsense in ("yesterday", 5, "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00Z"):
        assert told(status="processing", timestamp=nonsense).timestamp == 1000.0


def test_long_details_are_not_kept_but_found_again_by_their_sequence() -> None:
    job = JobState("id", 1, 0.0)
    assert job.apply(Event(2, "completed", 1.0, details=b"x" * 101), 100)
    assert (job.details, job.details_seq) == (b"", 2)


def test_details_too_deep_to_be_written_are_dropped() -> None:
    data = b'{"status":"completed","result":' + b"[" * 500 + b"]" * 500 + b"}"
    event = reported(data, 1, 0.0)
    assert event is not None
    assert event.details == b""


def test_a_submit_message_of_another_publisher_may_lack_fields() -> None:
    job = submitted("id", b'{"tags":["a",1],"priority":"x"}', 3, 9.0)
    assert (job.type, job.name, job.tags, job.priority) == ("", "", ("a", ""), 0)
    assert (job.seq, job.submitted_at, job.status) == (3, 9.0, "queued")


@pytest.mark.parametrize("user", ["u", "anonymous", "auth0|5f7c", "a b", "Zoë", "x" * 256])
def test_a_job_belongs_to_the_user_of_its_submit_message(user: str) -> None:
    assert submitted("id", orjson.dumps({"user_id": user}), 1, 0.0).user_id == user


@pytest.mark.parametrize("user", ["", None, 7, 1.5, True, ["u"], {"id": "u"}, "x" * 257])
def test_a_job_whose_message_names_no_user_belongs_to_nobody(user: object) -> None:
    assert submitted("id", orjson.dumps({"user_id": user}), 1, 0.0).user_id == ""
    assert submitted("id", b"{}", 1, 0.0).user_id == ""


def test_the_jobs_of_a_user_share_the_name() -> None:
    data = orjson.dumps({"user_id": "somebody with a long name"})
    first, second = submitted("a", data, 1, 0.0), submitted("b", data, 2, 0.0)
    assert first.user_id is second.user_id


values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30)
names = st.sampled_from(
    [
        "status",
        "message",
        "timestamp",
        "progress",
        "result",
        "error",
        "started_at",
        "ended_at",
        "worker",
        "provider_id",
        "exit_code",
        "execution_log",
        "user_id",
    ]
)


@given(st.dictionaries(names, values | st.sampled_from(STATUSES)), st.lists(st.integers()))
def test_no_message_raises(document: dict[str, Any], tags: list[int]) -> None:
    data = orjson.dumps(
        {k: v for k, v in document.items() if not isinstance(v, int) or abs(v) < 2**53}
    )
    event = reported(data, 1, 0.0)
    if event is not None:
        JobState("id", 1, 0.0).apply(event, 10)
    submitted("id", data, 1, 0.0)
