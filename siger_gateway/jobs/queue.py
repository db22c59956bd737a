"""The job queue as the gateway sees it: submit, cancel, look up; over one connection to JetStream.

A job is stored by one publish, and a client hears 202 only after the stream has confirmed it. So
there are four outcomes, and each has its own reason:

- confirmed;
- not connected, or nobody listens: ``queue_unavailable``, and nothing was sent;
- refused by the stream: ``queue_refused``, and nothing is stored;
- no confirmation in time: ``queue_ambiguous``; the job may be stored. Under an ``Idempotency-Key``
  the same request may simply be sent again: the key decides the job id, and the publish carries
  "only if no message has this id yet" (``Nats-Expected-Last-Subject-Sequence: 0``), which the
  stream enforces for as long as it keeps the first job, whichever gateway asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Iterator
from typing import Any, Final, NamedTuple, NoReturn

import nats.errors
import nats.js.errors
import orjson
from nats.aio.client import Client

from siger_gateway.config.schema import JobsConfig
from siger_gateway.errors import GatewayError
from siger_gateway.jobs import moments, stream
from siger_gateway.jobs.connection import Connection, NoAnswer, NotConnected, SetUpFailed, end
from siger_gateway.jobs.job import JobRequest, derived_job_id, digest_of, new_job_id
from siger_gateway.jobs.ownership import Actor
from siger_gateway.jobs.status import JobState
from siger_gateway.telemetry.metrics import Metrics

ACK_TIMEOUT: Final = 5.0
"""Seconds for a confirmation."""
MAX_IN_FLIGHT: Final = 1024
"""Publishes that may wait for a confirmation; some milliseconds of work for a NATS server."""
CLOSE_TIMEOUT: Final = ACK_TIMEOUT
"""Seconds that ``close`` waits for publishes in flight."""
ALREADY_STORED: Final = frozenset({10071, 10164})
"""JetStream's codes for "wrong last sequence": a message with this job id is there."""
KEEP_DETAILS: Final = 2048
"""Bytes of a job's result and error that stay in memory; longer ones are read when asked for."""

_log = logging.getLogger(__name__)


class Receipt(NamedTuple):
    """A stored job. ``timestamp``: RFC 3339, of the first submission also when it was repeated."""

    job_id: str
    timestamp: str


class Publish(NamedTuple):
    """A message that was sent. ``answer`` is the stream's; ``started``: ``time.monotonic()``."""

    answer: asyncio.Future[bytes]
    job_id: str
    started: float


class Submission(NamedTuple):
    """A job that was sent. ``timestamp``: RFC 3339; ``digest``: of its fields."""

    publish: Publish
    type: str
    timestamp: str
    digest: str


class JobQueue:
    """Submits and cancels jobs, and reads them back.

    :param config: the section ``jobs``.
    :param servers: ``nats_address``: ``host:port``, several separated by commas; empty: no jobs.
    """

    def __init__(self, config: JobsConfig, servers: str, metrics: Metrics) -> None:
        self.config = config
        self.subjects = stream.Subjects(config.stream)
        self.connection = Connection(servers, "siger-gateway", self._set_up)
        self.enabled = bool(servers.strip())
        """Whether there is a server to connect to at all."""
        self.acked_seq = 0
        """The highest sequence that was confirmed to this process: what its reads must show."""
        self.cancelled_seq = 0
        """The highest one of a cancel request."""
        self._metrics = metrics
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._repair: asyncio.Task[None] | None = None
        metrics.gauge(
            "siger_nats_connected",
            "1 while the job queue is connected.",
            (),
            lambda: [((), float(self.connected))],
        )

    @property
    def connected(self) -> bool:
        return self.connection.connected

    @property
    def problem(self) -> str:
        """Why it is not connected, for logs and health; empty while it is."""
        return self.connection.problem

    def start(self) -> None:
        """Connects in the background, again and again for ever; returns at once."""
        self.connection.start()

    async def close(self) -> None:
        """Waits (``CLOSE_TIMEOUT``) for publishes in flight, then disconnects."""
        if self._in_flight:
            self._idle.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await self._idle.wait()
        if self._repair is not None:
            await end([self._repair])
        await self.connection.close()

    async def submit(
        self, request: JobRequest, *, user_id: str, idempotency_key: str | None = None
    ) -> Receipt:
        """Stores a job: ``send`` and what follows it, for those who can wait.

        :raises GatewayError: as ``send``, ``confirmed`` and ``first_receipt``.
        """
        submission = self.send(request, user_id=user_id, idempotency_key=idempotency_key)
        await asyncio.wait((submission.publish.answer,))
        return self.confirmed(submission) or await self.first_receipt(submission)

    def send(
        self, request: JobRequest, *, user_id: str, idempotency_key: str | None = None
    ) -> Submission:
        """Sends a job to the stream. It is stored once ``confirmed`` says so, which has to be asked
        when ``publish.answer`` is done.

        :param user_id: whose job it will be; a key is good for one user's jobs only.
        :raises GatewayError: ``queue_unavailable``, ``queue_overflow``, ``body_too_large``.
        """
        job_id = derived_job_id(user_id, idempotency_key) if idempotency_key else new_job_id()
        document = request.fields()
        digest = digest_of(document)
        now = moments.write(time.time())
        document.update(job_id=job_id, user_id=user_id, timestamp=now, submitted_at=now)
        headers = {
            "Nats-Msg-Id": job_id,
            "Nats-Expected-Stream": self.config.stream,
            "Nats-Expected-Last-Subject-Sequence": "0",
            "Nats-Expected-Last-Subject-Sequence-Subject": self.subjects.submitted(job_id),
            stream.DIGEST_HEADER: digest,
        }
        subject = self.subjects.submit(request.type, request.lane, job_id)
        publish = self._publish(subject, orjson.dumps(document), headers, job_id)
        return Submission(publish, request.type, now, digest)

    def confirmed(self, submission: Submission) -> Receipt | None:
        """What the stream has answered; None: it holds a job with this id, see ``first_receipt``.

        :raises GatewayError: ``queue_unavailable``, ``queue_refused``, ``queue_ambiguous`` (with
            ``job_id``).
        """
        ack = self._ack(submission.publish)
        if "error" in ack:
            if ack["error"].get("err_code") not in ALREADY_STORED:
                _refused(ack["error"])
            return None
        if ack.get("duplicate"):
            return None
        self._metrics.job_submitted(submission.type)
        return Receipt(submission.publish.job_id, submission.timestamp)

    async def first_receipt(self, submission: Submission) -> Receipt:
        """The receipt of the job that was stored under this submission's key before.

        :raises GatewayError: ``idempotency_mismatch``, ``queue_refused``, ``queue_unavailable``.
        """
        job_id = submission.publish.job_id
        with self._reading():
            client = self.connection.client()
            first = await stream.submit_message(client, self.subjects, job_id)
        if first is None:  # its retention ended between the two requests
            raise GatewayError("queue_refused", headers={"Retry-After": "1"})
        if first.headers.get(stream.DIGEST_HEADER) != submission.digest:
            raise GatewayError("idempotency_mismatch")
        self.acked_seq = max(self.acked_seq, first.seq)
        return Receipt(job_id, str(orjson.loads(first.data)["timestamp"]))

    async def cancel(self, job_id: str, *, user_id: str) -> int:
        """Stores a request to cancel a job; the sequence that it got.

        :param user_id: who asks. Whether they may is for the caller to know.
        :raises GatewayError: as ``send`` and ``confirmed``.
        """
        document = {"job_id": job_id, "user_id": user_id, "timestamp": moments.write(time.time())}
        headers = {
            "Nats-Msg-Id": stream.cancel_message_id(job_id),
            "Nats-Expected-Stream": self.config.stream,
        }
        subject = self.subjects.cancel(job_id)
        publish = self._publish(subject, orjson.dumps(document), headers, job_id)
        await asyncio.wait((publish.answer,))
        ack = self._ack(publish)
        if "error" in ack:
            _refused(ack["error"])
        self.cancelled_seq = max(self.cancelled_seq, ack["seq"])
        return int(ack["seq"])

    async def find(self, job_id: str, actor: Actor) -> JobState | None:
        """The state of a job from the stream itself, however old it is; None: no such job, or none
        that ``actor`` may see.

        :raises GatewayError: ``queue_unavailable``.
        """
        with self._reading():
            client = self.connection.client()
            return await stream.read_job(client, self.subjects, job_id, KEEP_DETAILS, actor)

    async def message_at(self, seq: int) -> stream.Stored | None:
        """The message with that sequence; None when it is past its retention.

        :raises GatewayError: ``queue_unavailable``.
        """
        with self._reading():
            return await stream.message_at(self.connection.client(), self.subjects, seq)

    async def job_messages(self, job_id: str) -> AsyncGenerator[stream.Stored, None]:
        """Every message about a job that is stored now: its document, then its events.

        :raises GatewayError: ``queue_unavailable``.
        """
        with self._reading():
            client = self.connection.client()
            first = await stream.submit_message(client, self.subjects, job_id)
            if first is None:
                return
            yield first
            messages = stream.history(client, self.subjects, job_id, first.seq)
            async with contextlib.aclosing(messages):
                async for message in messages:
                    yield message

    def repair_stream(self) -> None:
        """Makes the stream again where it was deleted, in the background."""
        if self._repair is None or self._repair.done():
            self._repair = asyncio.create_task(self._ensure())

    async def _set_up(self, client: Client) -> None:
        await stream.ensure(client, self.config)

    async def _ensure(self) -> None:
        try:
            await stream.ensure(self.connection.client(), self.config)
        except (nats.errors.Error, TimeoutError, NotConnected, SetUpFailed) as error:
            fields = {"stream": self.config.stream, "error": str(error)}
            _log.warning("the stream cannot be repaired now", extra={"fields": fields})

    def _publish(
        self, subject: str, payload: bytes, headers: dict[str, str], job_id: str
    ) -> Publish:
        """One publish; ``_ack`` has to be called when its answer is there."""
        if self._in_flight >= MAX_IN_FLIGHT:
            raise GatewayError("queue_overflow", headers={"Retry-After": "1"})
        try:
            answer = self.connection.request(subject, payload, ACK_TIMEOUT, headers)
        except NotConnected:
            raise unavailable() from None
        except nats.errors.MaxPayloadError:
            raise GatewayError("body_too_large") from None
        self._in_flight += 1
        answer.add_done_callback(self._landed)
        return Publish(answer, job_id, time.monotonic())

    def _landed(self, _: asyncio.Future[bytes]) -> None:
        self._in_flight -= 1
        if not self._in_flight:
            self._idle.set()

    def _ack(self, publish: Publish) -> dict[str, Any]:
        """The stream's answer to a publish, which may be a refusal."""
        try:
            ack = orjson.loads(publish.answer.result())
        except nats.errors.NoRespondersError:
            self.repair_stream()
            raise unavailable() from None
        except (NoAnswer, orjson.JSONDecodeError):
            raise GatewayError(
                "queue_ambiguous",
                headers={"Retry-After": "1"},
                extensions={"job_id": publish.job_id},
            ) from None
        self._metrics.job_publish.observe(time.monotonic() - publish.started)
        if not isinstance(ack, dict):
            raise GatewayError("queue_ambiguous", extensions={"job_id": publish.job_id})
        self.acked_seq = max(self.acked_seq, ack.get("seq") or 0)
        return ack

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """Whatever goes wrong while the stream is read is one error to a client."""
        try:
            yield
        except nats.js.errors.NotFoundError:
            self.repair_stream()
            raise unavailable("The job queue cannot be read now.") from None
        except (nats.errors.Error, TimeoutError, NotConnected) as error:
            _log.info("the stream cannot be read", extra={"fields": {"error": str(error)}})
            raise unavailable("The job queue cannot be read now.") from None


def unavailable(detail: str | None = None) -> GatewayError:
    """503 ``queue_unavailable``, with the seconds after which a reconnect has been tried."""
    return GatewayError("queue_unavailable", detail, headers={"Retry-After": "2"})


def _refused(error: dict[str, Any]) -> NoReturn:
    _log.warning("the stream refused a message", extra={"fields": {"error": error}})
    raise GatewayError("queue_refused", headers={"Retry-After": "5"})
