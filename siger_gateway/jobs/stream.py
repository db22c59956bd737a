"""The one stream: its subjects, its settings, and reading what it holds about one job.

    <stream>.submit.<type>.<lane>.<job_id>     the job document, once per job
    <stream>.status.<job_id>                   what workers report
    <stream>.cancel.<job_id>                   cancel requests

All functions take a connected nats-py client and raise nats-py's errors. A single message is read
from the stream's leader (STREAM.MSG.GET, not the direct get that any replica answers), so what
another gateway stored a millisecond ago is seen.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import nats.errors
import nats.js.errors
import orjson
from nats.aio.client import Client
from nats.js import api

from siger_gateway.config.schema import JobsConfig
from siger_gateway.jobs.connection import SetUpFailed
from siger_gateway.jobs.job import LANES
from siger_gateway.jobs.ownership import Actor
from siger_gateway.jobs.status import Event, JobState, cancel_requested, reported, submitted

DUPLICATE_WINDOW: Final = 120.0
"""Seconds in which the server drops a message with a ``Nats-Msg-Id`` that it has seen."""
API_TIMEOUT: Final = 5.0
"""Seconds for one request to the JetStream API."""
PAGE: Final = 256
"""Messages of a history that are asked for at a time."""
DIGEST_HEADER: Final = "Siger-Body-Digest"
"""``JobRequest.digest()`` of a stored job, for comparing a repeated submission."""

Kind = Literal["submit", "status", "cancel"]
"""The messages of a job: its document, what workers report, requests to cancel it."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Subjects:
    """Every subject that this package publishes or reads; ``stream`` is the first token."""

    stream: str

    @property
    def all(self) -> tuple[str, str, str]:
        """What the stream stores."""
        return (f"{self.stream}.submit.>", f"{self.stream}.status.>", f"{self.stream}.cancel.>")

    def submit(self, job_type: str, lane: str, job_id: str) -> str:
        return f"{self.stream}.submit.{job_type}.{lane}.{job_id}"

    def submitted(self, job_id: str) -> str:
        """The submit message of a job whose type and lane are not known."""
        return f"{self.stream}.submit.*.*.{job_id}"

    def work(self, job_type: str, lane: str) -> str:
        return f"{self.stream}.submit.{job_type}.{lane}.*"

    def status(self, job_id: str) -> str:
        return f"{self.stream}.status.{job_id}"

    def cancel(self, job_id: str) -> str:
        return f"{self.stream}.cancel.{job_id}"

    def events(self, job_id: str) -> str:
        """The status and cancel messages of a job."""
        return f"{self.stream}.*.{job_id}"

    def parse(self, subject: str) -> tuple[Kind, str] | None:
        """What a subject is about, and which job; None: it is none of these."""
        tokens = subject.split(".")
        if tokens[0] != self.stream:
            return None
        if len(tokens) == 5 and tokens[1] == "submit":
            return "submit", tokens[4]
        if len(tokens) == 3:
            if tokens[1] == "status":
                return "status", tokens[2]
            if tokens[1] == "cancel":
                return "cancel", tokens[2]
        return None


class Stored(NamedTuple):
    """A message of the stream. ``stored_at``: seconds since 1970."""

    subject: str
    seq: int
    stored_at: float
    data: bytes
    headers: dict[str, str]


class Delivery(NamedTuple):
    """What the reply subject of a delivered message tells (``$JS.ACK…``)."""

    seq: int
    consumer_seq: int
    nanoseconds: int
    pending: int
    attempt: int


def delivery(reply: str) -> Delivery:
    """Parses a reply subject: 9 tokens, or 11 and more with domain and account (ADR-15)."""
    tokens = reply.split(".")
    first = 4 if len(tokens) == 9 else 6
    attempt, seq, consumer_seq, nanoseconds, pending = map(int, tokens[first : first + 5])
    return Delivery(seq, consumer_seq, nanoseconds, pending, attempt)


async def ensure(client: Client, config: JobsConfig) -> None:
    """Creates the stream, or brings its settings to the configured ones, and checks the outcome.

    :raises SetUpFailed: it exists with settings that cannot be changed, or the server answered
        with other settings than it was asked for (old servers ignore what they do not know).
    """
    js = client.jetstream(timeout=API_TIMEOUT)
    wanted = api.StreamConfig(
        name=config.stream,
        subjects=list(Subjects(config.stream).all),
        retention=api.RetentionPolicy.LIMITS,
        storage=api.StorageType.FILE,
        discard=api.DiscardPolicy.OLD,
        num_replicas=config.replicas,
        max_age=config.max_age,
        duplicate_window=min(DUPLICATE_WINDOW, config.max_age),
    )
    try:
        found = (await js.stream_info(config.stream)).config
    except nats.js.errors.NotFoundError:
        try:
            found = (await js.add_stream(wanted)).config
            _log.info("stream created", extra={"fields": {"stream": config.stream}})
        except nats.js.errors.BadRequestError as error:
            if error.err_code != 10058:  # another gateway created it meanwhile, with other settings
                raise
            found = (await js.stream_info(config.stream)).config
    differing = _differing(found, wanted)
    if differing & {"storage", "retention"}:
        raise SetUpFailed(
            f"stream {config.stream} exists with another {', '.join(sorted(differing))}; "
            "set another jobs.stream, or delete it"
        )
    if differing:
        fields = {"stream": config.stream, "settings": sorted(differing)}
        _log.warning("stream settings differ from the configuration", extra={"fields": fields})
        changed = {name: getattr(wanted, name) for name in differing}
        found = (await js.update_stream(found.evolve(**changed))).config
        if remaining := _differing(found, wanted):
            raise SetUpFailed(f"the server did not accept {', '.join(sorted(remaining))}")


def _differing(found: api.StreamConfig, wanted: api.StreamConfig) -> set[str]:
    """Names of the settings that are not as wanted; further subjects are the operator's affair."""
    names = {
        name
        for name in ("retention", "storage", "discard", "num_replicas")
        if getattr(found, name) != getattr(wanted, name)
    }
    for name in ("max_age", "duplicate_window"):
        if abs((getattr(found, name) or 0.0) - getattr(wanted, name)) > 1e-3:
            names.add(name)
    if not set(wanted.subjects) <= set(found.subjects or ()):
        names.add("subjects")
    if found.no_ack:
        names.add("no_ack")
    return names


async def submit_message(client: Client, subjects: Subjects, job_id: str) -> Stored | None:
    """The stored job document; None when there is none (any more)."""
    return await _last(client, subjects, subjects.submitted(job_id))


async def last_event(client: Client, subjects: Subjects, job_id: str) -> Stored | None:
    """The last status or cancel message of a job, legal or not."""
    return await _last(client, subjects, subjects.events(job_id))


async def _last(client: Client, subjects: Subjects, subject: str) -> Stored | None:
    js = client.jetstream(timeout=API_TIMEOUT)
    try:
        return _stored(await js.get_last_msg(subjects.stream, subject))
    except nats.js.errors.NotFoundError as error:
        if error.err_code == 10059:  # not this message: the whole stream is missing
            raise
        return None


async def message_at(client: Client, subjects: Subjects, seq: int) -> Stored | None:
    """The message with that sequence; None when it is past its retention."""
    js = client.jetstream(timeout=API_TIMEOUT)
    try:
        return _stored(await js.get_msg(subjects.stream, seq=seq))
    except nats.js.errors.NotFoundError:
        return None


def _stored(message: api.RawStreamMsg) -> Stored:
    return Stored(
        message.subject,
        message.seq,
        message.time.timestamp(),
        message.data or b"",
        message.headers or {},
    )


async def history(
    client: Client, subjects: Subjects, job_id: str, after: int
) -> AsyncGenerator[Stored, None]:
    """The status and cancel messages of a job that are stored now, in order.

    A consumer that lives as long as the reading; its pages bound what waits in memory here.

    :param after: only messages with a higher sequence.
    """
    js = client.jetstream(timeout=API_TIMEOUT)
    info = await js.add_consumer(
        subjects.stream,
        api.ConsumerConfig(
            deliver_policy=api.DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=after + 1,
            ack_policy=api.AckPolicy.NONE,
            filter_subject=subjects.events(job_id),
            inactive_threshold=30.0,
            num_replicas=1,
            mem_storage=True,
        ),
    )
    left = info.num_pending or 0
    inbox = client.new_inbox()
    ask = f"$JS.API.CONSUMER.MSG.NEXT.{subjects.stream}.{info.name}"
    subscription = await client.subscribe(inbox)
    try:
        while left > 0:
            page = min(left, PAGE)
            await client.publish(ask, orjson.dumps({"batch": page, "no_wait": True}), inbox)
            for _ in range(page):
                message = await subscription.next_msg(timeout=API_TIMEOUT)
                if message.headers and "Status" in message.headers:
                    return  # fewer than promised: the retention took the others meanwhile
                sent = delivery(message.reply)
                headers = message.headers or {}
                yield Stored(
                    message.subject, sent.seq, sent.nanoseconds / 1e9, message.data, headers
                )
            left -= page
    finally:
        with contextlib.suppress(nats.errors.Error):
            await subscription.unsubscribe()
            await js.delete_consumer(subjects.stream, info.name)


def event_of(subjects: Subjects, message: Stored) -> Event | None:
    """The event that a status or cancel message is; None when it is none."""
    parsed = subjects.parse(message.subject)
    if parsed is None or parsed[0] == "submit":
        return None
    read = cancel_requested if parsed[0] == "cancel" else reported
    return read(message.data, message.seq, message.stored_at)


async def read_job(
    client: Client, subjects: Subjects, job_id: str, keep_details: int, actor: Actor
) -> JobState | None:
    """The state of a job, from the stream alone.

    None when the stream does not hold the job, and after the same one request when ``actor`` may
    not see it.
    """
    message = await submit_message(client, subjects, job_id)
    if message is None:
        return None
    state = submitted(job_id, message.data, message.seq, message.stored_at)
    if not actor.may_see(state):
        return None
    async with contextlib.aclosing(history(client, subjects, job_id, message.seq)) as messages:
        async for message in messages:
            event = event_of(subjects, message)
            if event is not None:
                state.apply(event, keep_details)
    return state


def lanes(lane: str) -> tuple[str, ...]:
    """The lanes that a worker with that ``lane`` serves: one, or with ``""`` all of them."""
    return (lane,) if lane else LANES


def cancel_message_id(job_id: str) -> str:
    """The ``Nats-Msg-Id`` of cancel requests: several in a row are stored once."""
    return f"cancel-{job_id}"


def consumer_name(job_type: str, lane: str) -> str:
    """The durable consumer that all workers of a type and lane share."""
    return f"work-{job_type}-{lane}"
