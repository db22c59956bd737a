"""The jobs service says what REST says, and refuses what REST refuses."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given, settings
from hypothesis import strategies as st

from siger_gateway.api.jobs import job_document
from siger_gateway.errors import GatewayError
from siger_gateway.grpc import jobs_messages
from siger_gateway.grpc.protos.siger.jobs.v1 import jobs_pb2
from siger_gateway.jobs.job import parse_body
from siger_gateway.jobs.status import STATUSES, Event, JobState

ID = "0190f3a0-0000-7000-8000-000000000001"
LONG = "a" * 65


def refused(call: Any, *arguments: Any) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        call(*arguments)
    return caught.value


def bad_fields(call: Any, *arguments: Any) -> list[str]:
    error = refused(call, *arguments)
    assert error.reason == "invalid_fields"
    return [entry["field"] for entry in error.errors or []]


def state(status: str = "queued", **fields: Any) -> JobState:
    job = JobState(ID, 5, 1_700_000_000.25, type="train", name="a job")
    job.status = status
    for name, value in fields.items():
        setattr(job, name, value)
    return job


def as_rest(message: Any) -> dict[str, Any]:
    """A message in REST's words: its status without the enum's prefix, no defaults."""
    document = MessageToDict(message, preserving_proto_field_name=True)
    document["status"] = document["status"].removeprefix("STATUS_").lower()
    return document


def test_the_statuses_are_those_of_jobs() -> None:
    names = [value.name for value in jobs_pb2.Status.DESCRIPTOR.values]
    assert names == ["STATUS_UNSPECIFIED", *(f"STATUS_{word.upper()}" for word in STATUSES)]


def test_a_submission_is_the_request_that_rest_would_have_read() -> None:
    body = {
        "type": "train",
        "name": "a job",
        "description": "d",
        "gpu_type": "A100",
        "gpu_count": 4,
        "priority": 50,
        "params": {"epochs": 3, "rate": 0.5, "deep": {"list": [1, None, True, "x", []]}},
        "tags": ["nlp", "x"],
    }
    read = jobs_messages.read_submit(jobs_pb2.SubmitRequest(**body, idempotency_key="k"), ())
    assert read.idempotency_key == "k"
    assert read.request == parse_body(orjson.dumps(body))
    assert read.request.lane == "high"


def test_what_is_not_set_was_not_sent() -> None:
    read = jobs_messages.read_submit(jobs_pb2.SubmitRequest(type="t", name="n"), ())
    assert read.idempotency_key is None
    assert read.request.fields() == {"type": "t", "name": "n", "priority": 0}


def as_json_numbers(number: float) -> float:
    """REST would be sent 1 and not 1.0 for what a double cannot tell apart."""
    return int(number) if number.is_integer() and abs(number) <= 2**53 else number


numbers = st.floats(allow_nan=False, allow_infinity=False).map(as_json_numbers)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5) | numbers,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
objects = st.dictionaries(st.text(max_size=5), json_values, max_size=3)


@settings(max_examples=40)
@given(objects)
def test_params_mean_the_same_under_the_same_key(params: dict[str, Any]) -> None:
    message = jobs_pb2.SubmitRequest(type="t", name="n", params=params)
    sent = jobs_pb2.SubmitRequest.FromString(message.SerializeToString())
    rest = parse_body(orjson.dumps({"type": "t", "name": "n", "params": params}))
    assert jobs_messages.read_submit(sent, ()).request.digest() == rest.digest()


@pytest.mark.parametrize(
    ("fields", "bad"),
    [
        ({}, ["type", "name"]),
        ({"type": "a.b", "name": "n"}, ["type"]),
        ({"type": "t", "name": "a\nb"}, ["name"]),
        ({"type": "t", "name": "n", "gpu_count": 0}, ["gpu_count"]),
        ({"type": "t", "name": "n", "priority": 101}, ["priority"]),
        ({"type": "t", "name": "n", "priority": -1, "tags": [LONG]}, ["priority", "tags"]),
        ({"type": "t", "name": "n", "tags": [""]}, ["tags"]),
        ({"type": "t", "name": "n", "params": {"a": float("nan")}}, ["params"]),
        ({"type": "t", "name": "n", "params": {"a": [float("inf")]}}, ["params"]),
        ({"type": "t", "name": "n", "idempotency_key": "a\n"}, ["idempotency_key"]),
        ({"type": "t", "name": "n", "idempotency_key": "k" * 256}, ["idempotency_key"]),
    ],
)
def test_bad_fields_of_a_submission_are_named(fields: dict[str, Any], bad: list[str]) -> None:
    assert bad_fields(jobs_messages.read_submit, jobs_pb2.SubmitRequest(**fields), ()) == bad


def test_only_accepted_types_are_submitted() -> None:
    message = jobs_pb2.SubmitRequest(type="t", name="n")
    assert bad_fields(jobs_messages.read_submit, message, ("train",)) == ["type"]
    assert jobs_messages.read_submit(message, ("train", "t")).request.type == "t"


@pytest.mark.parametrize("job_id", ["", "x", "{" + ID + "}", ID.replace("-", "")])
def test_what_is_no_id_is_no_job(job_id: str) -> None:
    for read, message in (
        (jobs_messages.read_get, jobs_pb2.GetRequest(job_id=job_id)),
        (jobs_messages.read_cancel, jobs_pb2.CancelRequest(job_id=job_id)),
        (jobs_messages.read_watch, jobs_pb2.WatchRequest(job_id=job_id)),
    ):
        assert refused(read, message).reason == "not_found"


def test_ids_are_read_in_either_case() -> None:
    assert jobs_messages.read_cancel(jobs_pb2.CancelRequest(job_id=ID.upper())) == ID


@pytest.mark.parametrize(
    ("fields", "wait", "seen"),
    [
        ({}, 0.0, None),
        ({"wait": {"seconds": 30}}, 30.0, None),
        ({"wait": {"seconds": 60}, "version": 7}, 60.0, 7),
        ({"wait": {"nanos": 250_000_000}}, 0.25, None),
    ],
)
def test_a_look_at_a_job_may_wait(fields: dict[str, Any], wait: float, seen: int | None) -> None:
    asked = jobs_messages.read_get(jobs_pb2.GetRequest(job_id=ID, **fields))
    assert asked == jobs_messages.Get(ID, wait, seen)


@pytest.mark.parametrize(
    ("fields", "bad"),
    [
        ({"wait": {"seconds": 61}}, "wait"),
        ({"wait": {"seconds": 60, "nanos": 1}}, "wait"),
        ({"wait": {"seconds": -1}}, "wait"),
        ({"version": -1}, "version"),
    ],
)
def test_a_wait_has_bounds(fields: dict[str, Any], bad: str) -> None:
    message = jobs_pb2.GetRequest(job_id=ID, **fields)
    assert bad_fields(jobs_messages.read_get, message) == [bad]


def test_a_listing_without_conditions_is_the_first_page_of_all() -> None:
    assert jobs_messages.read_list(jobs_pb2.ListRequest()) == jobs_messages.Listing(
        100, None, frozenset(), frozenset(), frozenset(), frozenset()
    )


def test_the_conditions_of_a_listing_are_read() -> None:
    message = jobs_pb2.ListRequest(
        status=[1, 5], type=["t"], tag=["a", "b"], user=["u"], limit=1000, cursor="17"
    )
    assert jobs_messages.read_list(message) == jobs_messages.Listing(
        1000,
        17,
        frozenset({"queued", "failed"}),
        frozenset({"t"}),
        frozenset({"a", "b"}),
        frozenset({"u"}),
    )


@pytest.mark.parametrize(
    ("fields", "bad"),
    [
        ({"status": [0]}, "status"),
        ({"status": [1, 99]}, "status"),
        ({"type": ["a b"]}, "type"),
        ({"tag": [LONG]}, "tag"),
        ({"user": [""]}, "user"),
        ({"limit": 1001}, "limit"),
        ({"limit": -1}, "limit"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": "0"}, "cursor"),
    ],
)
def test_bad_conditions_of_a_listing_are_named(fields: dict[str, Any], bad: str) -> None:
    assert bad_fields(jobs_messages.read_list, jobs_pb2.ListRequest(**fields)) == [bad]


def test_a_watch_begins_after_an_event() -> None:
    assert jobs_messages.read_watch(jobs_pb2.WatchRequest(job_id=ID, after=7)) == (ID, 7)
    assert jobs_messages.read_watch(jobs_pb2.WatchRequest(job_id=ID)) == (ID, 0)
    message = jobs_pb2.WatchRequest(job_id=ID, after=-1)
    assert bad_fields(jobs_messages.read_watch, message) == ["after"]


def test_a_receipt_and_a_cancellation_say_what_rest_says() -> None:
    receipt = jobs_messages.submitted(ID, "2026-01-31T12:00:00.250Z")
    assert as_rest(receipt) == {
        "job_id": ID,
        "status": "queued",
        "timestamp": "2026-01-31T12:00:00.250Z",
        "message": "Job submitted successfully",
    }
    assert as_rest(jobs_messages.cancelling(state("cancelling"))) == {
        "job_id": ID,
        "status": "cancelling",
        "timestamp": "2023-11-14T22:13:20.250Z",
        "message": "Job cancellation requested",
    }


milliseconds = st.integers(0, 10**13).map(lambda value: value / 1000)
states = st.builds(
    state,
    status=st.sampled_from(STATUSES),
    timestamp=milliseconds,
    submitted_at=milliseconds,
    message=st.text(min_size=1),
    user_id=st.text(max_size=3),
    name=st.text(min_size=1),
    priority=st.integers(1, 100),
    tags=st.lists(st.text(), min_size=1).map(tuple),
    progress=st.none() | st.floats(0, 100),
    worker=st.text(max_size=3),
    started_at=st.none() | milliseconds,
    ended_at=st.none() | milliseconds,
    event_seq=st.integers(1, 2**60),
)


def normal(document: dict[str, Any]) -> dict[str, Any]:
    """RFC 3339 writes a whole second with and without milliseconds."""
    return {
        name: value.replace(".000Z", "Z") if isinstance(value, str) else value
        for name, value in document.items()
    }


@settings(max_examples=40)
@given(states)
def test_a_job_says_what_rest_says(job: JobState) -> None:
    message = jobs_messages.job_message(job, {})
    told = as_rest(message)
    assert (told.pop("version"), told.pop("lane")) == (
        str(job.event_seq),
        "LANE_HIGH" if job.priority >= 50 else "LANE_NORMAL",
    )
    assert normal(told) == normal(job_document(job))


@settings(max_examples=40)
@given(json_values)
def test_a_result_is_any_json(result: Any) -> None:
    message = jobs_messages.job_message(state("completed"), {"result": result})
    sent = jobs_pb2.Job.FromString(message.SerializeToString())
    assert MessageToDict(sent)["result"] == result


@pytest.mark.parametrize("depth", [jobs_messages.MAX_DEPTH, jobs_messages.MAX_DEPTH + 1, 250])
def test_a_result_that_nests_too_deep_for_protobuf_is_its_json(depth: int) -> None:
    result: Any = 1
    for _ in range(depth):
        result = {"a": result}
    page = jobs_pb2.ListResponse(jobs=[jobs_messages.job_message(state(), {"result": result})])
    told = MessageToDict(jobs_pb2.ListResponse.FromString(page.SerializeToString()))
    is_json = depth > jobs_messages.MAX_DEPTH
    assert told["jobs"][0]["result"] == (orjson.dumps(result).decode() if is_json else result)


def test_an_error_is_told_and_its_absence_too() -> None:
    assert jobs_messages.job_message(state("failed"), {"error": "x"}).error == "x"
    silent = jobs_messages.job_message(state("failed"), {})
    assert [silent.HasField(name) for name in ("error", "result", "progress")] == [False] * 3


def test_a_page_names_the_next_one() -> None:
    page = jobs_messages.listed([state(), state("failed")], 17)
    assert [job.status for job in page.jobs] == [jobs_pb2.STATUS_QUEUED, jobs_pb2.STATUS_FAILED]
    assert page.next_cursor == "17"
    assert jobs_messages.listed([], None) == jobs_pb2.ListResponse()


def test_an_event_has_its_sequence_and_its_details() -> None:
    event = Event(
        9,
        "completed",
        1_700_000_000.0,
        progress=0.0,
        worker="w",
        ended_at=1_700_000_001.5,
        details=b'{"result":{"n":1},"error":"e"}',
    )
    assert as_rest(jobs_messages.event_message(ID, event)) == {
        "id": "9",
        "job_id": ID,
        "status": "completed",
        "timestamp": "2023-11-14T22:13:20Z",
        "message": "Job completed",
        "progress": 0.0,
        "worker": "w",
        "ended_at": "2023-11-14T22:13:21.500Z",
        "result": {"n": 1.0},
        "error": "e",
    }
