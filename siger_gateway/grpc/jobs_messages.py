"""The messages of ``siger.jobs.v1`` and what the jobs API works with, both ways. Pure.

A job is the same whether REST or gRPC speaks of it: requests go through the same checks as REST's,
``jobs.job.parse_body`` and ``jobs.query``, and answers hold what ``api.jobs`` writes as JSON. A
field that REST would leave out is not set here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

import orjson
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from siger_gateway.errors import GatewayError
from siger_gateway.grpc.protos.siger.jobs.v1 import jobs_pb2
from siger_gateway.jobs import query
from siger_gateway.jobs.job import HIGH_FROM, JobRequest, parse_body, parse_job_id
from siger_gateway.jobs.status import CANCELLING, MESSAGES, QUEUED, STATUSES, Event, JobState

MAX_DEPTH: Final = 30
"""Nesting of a ``Value``: each object of it is three messages (the value, its struct, an entry),
and protobuf's libraries read 100 at most."""

_EXACT: Final = 2**53
"""A double holds every integer up to here."""

_NUMBERS: Final = {word: jobs_pb2.Status.Value(f"STATUS_{word.upper()}") for word in STATUSES}
_WORDS: Final = {number: word for word, number in _NUMBERS.items()}


@dataclass(frozen=True, slots=True)
class Submit:
    """What a ``SubmitRequest`` asks for, as ``JobQueue.submit`` takes it."""

    request: JobRequest
    idempotency_key: str | None


@dataclass(frozen=True, slots=True)
class Get:
    """What a ``GetRequest`` asks for, as ``Ledger.changed`` takes it.

    :param wait: seconds; 0.0: it is not to be waited.
    :param seen: the ``event_seq`` that is known; None: the present one.
    """

    job_id: str
    wait: float
    seen: int | None


@dataclass(frozen=True, slots=True)
class Listing:
    """What a ``ListRequest`` asks for, as ``Ledger.list`` takes it."""

    limit: int
    before: int | None
    statuses: frozenset[str]
    types: frozenset[str]
    tags: frozenset[str]
    users: frozenset[str]


def read_submit(message: jobs_pb2.SubmitRequest, types: tuple[str, ...]) -> Submit:
    """:param types: the job types that are accepted; empty: any.
    :raises GatewayError: ``invalid_fields``, ``body_too_large``.
    """
    key = message.idempotency_key
    checked = query.idempotency_key([key] if key else [], "idempotency_key")
    fields: dict[str, Any] = {
        name: getattr(message, name)
        for name in ("type", "name", "description", "gpu_type", "priority")
        if getattr(message, name)  # its default says the same as no field
    }
    if message.HasField("gpu_count"):
        fields["gpu_count"] = message.gpu_count
    if message.tags:
        fields["tags"] = list(message.tags)
    if message.HasField("params"):
        fields["params"] = _object(message.params)
    return Submit(parse_body(orjson.dumps(fields), types), checked)


def read_get(message: jobs_pb2.GetRequest) -> Get:
    """:raises GatewayError: ``not_found``, ``invalid_fields``."""
    job_id = parse_job_id(message.job_id)
    wait = message.wait.seconds + message.wait.nanos / 1e9
    if not 0.0 <= wait <= query.MAX_WAIT:
        query.refuse_wait()
    seen = query.whole("version", [str(message.version)], 0, query.MAX_SEQUENCE)
    return Get(job_id, wait, seen or None)


def read_cancel(message: jobs_pb2.CancelRequest) -> str:
    """The id of the job that is to be cancelled.

    :raises GatewayError: ``not_found``.
    """
    return parse_job_id(message.job_id)


def read_list(message: jobs_pb2.ListRequest) -> Listing:
    """:raises GatewayError: ``invalid_fields``."""
    words = [_WORDS.get(number, "") for number in message.status]
    limits = [str(message.limit)] if message.limit else []
    cursors = [message.cursor] if message.cursor else []
    return Listing(
        query.whole("limit", limits, 1, query.MAX_LIMIT) or query.DEFAULT_LIMIT,
        query.whole("cursor", cursors, 1, query.MAX_SEQUENCE),
        query.one_of("status", words, STATUSES),
        query.tokens("type", message.type),
        query.texts("tag", message.tag),
        query.users("user", message.user),
    )


def read_watch(message: jobs_pb2.WatchRequest) -> tuple[str, int]:
    """The id of a job, and the sequence after which its events are wanted.

    :raises GatewayError: ``not_found``, ``invalid_fields``.
    """
    job_id = parse_job_id(message.job_id)
    return job_id, query.whole("after", [str(message.after)], 0, query.MAX_SEQUENCE) or 0


def submitted(job_id: str, timestamp: str) -> jobs_pb2.SubmitResponse:
    """The answer for a stored job.

    :param timestamp: of its receipt, RFC 3339.
    """
    moment = Timestamp()
    moment.FromJsonString(timestamp)
    return jobs_pb2.SubmitResponse(
        job_id=job_id, status=_NUMBERS[QUEUED], timestamp=moment, message=MESSAGES[QUEUED]
    )


def cancelling(job: JobState) -> jobs_pb2.CancelResponse:
    """The answer for a job whose cancellation was requested, as the ledger then has it."""
    return jobs_pb2.CancelResponse(
        job_id=job.job_id,
        status=_NUMBERS[CANCELLING],
        timestamp=_moment(job.timestamp),
        message=MESSAGES[CANCELLING],
    )


def job_message(job: JobState, details: Mapping[str, Any]) -> jobs_pb2.Job:
    """A job.

    :param details: its ``result`` and ``error``, those that there are; in listings none.
    """
    message = jobs_pb2.Job(
        job_id=job.job_id,
        status=_NUMBERS[job.status],
        timestamp=_moment(job.timestamp),
        message=job.message or MESSAGES[job.status],
        type=job.type,
        user_id=job.user_id,
        name=job.name,
        priority=job.priority,
        lane=jobs_pb2.LANE_HIGH if job.priority >= HIGH_FROM else jobs_pb2.LANE_NORMAL,
        tags=job.tags,
        submitted_at=_moment(job.submitted_at),
        version=job.event_seq,
    )
    _add(message, job, details)
    return message


def listed(jobs: Sequence[JobState], cursor: int | None) -> jobs_pb2.ListResponse:
    """A page, as ``Ledger.list`` gives it."""
    return jobs_pb2.ListResponse(
        jobs=[job_message(job, {}) for job in jobs],
        next_cursor="" if cursor is None else str(cursor),
    )


def event_message(job_id: str, event: Event) -> jobs_pb2.Event:
    """An event of a job."""
    message = jobs_pb2.Event(
        id=event.seq,
        job_id=job_id,
        status=_NUMBERS[event.status],
        timestamp=_moment(event.timestamp),
        message=event.message or MESSAGES[event.status],
    )
    _add(message, event, orjson.loads(event.details) if event.details else {})
    return message


def add_details(message: jobs_pb2.Job | jobs_pb2.Event, details: Mapping[str, Any]) -> None:
    """Adds the ``result`` and the ``error``, those that there are."""
    if "result" in details:
        message.result.CopyFrom(_value(details["result"]))
    if "error" in details:
        message.error = details["error"]


def _add(
    message: jobs_pb2.Job | jobs_pb2.Event, source: JobState | Event, details: Mapping[str, Any]
) -> None:
    """The fields that jobs and events may have or not have."""
    if source.progress is not None:
        message.progress = source.progress
    message.worker = source.worker
    if source.started_at is not None:
        message.started_at.CopyFrom(_moment(source.started_at))
    if source.ended_at is not None:
        message.ended_at.CopyFrom(_moment(source.ended_at))
    add_details(message, details)


def _moment(seconds: float) -> Timestamp:
    """To the millisecond, as ``jobs.moments.write`` has it."""
    whole, milliseconds = divmod(int(seconds * 1000 + 0.0005), 1000)
    return Timestamp(seconds=whole, nanos=milliseconds * 1_000_000)


def _value(result: Any) -> Value:
    """A JSON value; one that nests too deep for protobuf as the text of its JSON."""
    if not _is_shallow(result):
        return Value(string_value=orjson.dumps(result).decode())
    value = Value()
    ParseDict(result, value)
    return value


def _is_shallow(result: Any) -> bool:
    """Whether a JSON value nests at most ``MAX_DEPTH`` deep; level by level."""
    level = [result]
    for _ in range(MAX_DEPTH + 1):
        items = [item for item in level if isinstance(item, dict | list)]
        if not items:
            return True
        level = [
            below for item in items for below in (item.values() if isinstance(item, dict) else item)
        ]
    return False


def _object(struct: Struct) -> dict[str, Any]:
    return {name: _plain(value) for name, value in struct.fields.items()}


def _plain(value: Value) -> Any:
    """What JSON would have given. Integers are integers again: a REST client that submits the same
    job under the same key means the same."""
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return _object(value.struct_value)
    if kind == "list_value":
        return _array(value.list_value)
    if kind == "number_value":
        number = value.number_value
        if not isfinite(number):
            raise GatewayError(
                "invalid_fields", errors=[{"field": "params", "detail": "must hold finite numbers"}]
            )
        return int(number) if number.is_integer() and abs(number) <= _EXACT else number
    return None if kind in (None, "null_value") else getattr(value, kind)


def _array(values: ListValue) -> list[Any]:
    return [_plain(value) for value in values.values]
