"""The two requests that a busy jobs API consists of, without a ``RequestHandler`` for each.

Tornado's handlers in ``api.jobs`` answer everything about jobs; building one, and the request and
header objects that it wants, costs several times what there is to do for a submission or a look at
one job. ``DirectJobs`` is asked first, takes the plain ones of these two and leaves all others, so
whatever is unusual (a query string, ``Prefer``, a field that stands twice, a job that is not in
memory, a foreign one) has one implementation. What it answers is what the handler would have
answered, field for field; filters, limits, metrics and the access log are the same for both.
"""

from __future__ import annotations

import asyncio
import logging
import re
from functools import partial
from typing import Final

import orjson

from siger_gateway.api.documents import job_document
from siger_gateway.api.jobs import PATH
from siger_gateway.errors import GatewayError
from siger_gateway.http.message import Request
from siger_gateway.http.tornado import TornadoConsumer
from siger_gateway.jobs import query
from siger_gateway.jobs.job import parse_body
from siger_gateway.jobs.ledger import Ledger
from siger_gateway.jobs.ownership import UNRESTRICTED, Actor, actor
from siger_gateway.jobs.queue import JobQueue, Receipt, Submission
from siger_gateway.jobs.status import MESSAGES, QUEUED

_COLLECTION: Final = PATH.encode()
_JOB: Final = re.compile(
    _COLLECTION + rb"/([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"
)
"""The address of a job, its id as ``parse_job_id`` writes it."""
_JSON: Final = (b"content-type", b"application/json")
_NO_STORE: Final = (b"cache-control", b"no-store")
_NO_CACHE: Final = (b"cache-control", b"no-cache")
_ACCEPTED: Final = (
    '{"job_id":"%s","status":"'
    + QUEUED
    + '","timestamp":"%s","message":"'
    + MESSAGES[QUEUED]
    + '"}'
)

_log = logging.getLogger(__name__)


class DirectJobs:
    """``POST /api/v1/jobs`` and ``GET /api/v1/jobs/{job_id}``."""

    def __init__(self, queue: JobQueue, ledger: Ledger) -> None:
        self._queue = queue
        self._ledger = ledger
        self._tasks: set[asyncio.Task[None]] = set()

    def answer(self, consumer: TornadoConsumer) -> bool:
        """Answers a request without a body, if it is for a job in memory."""
        request = consumer.request
        fields, match = request.fields, _JOB.fullmatch(request.target)
        if (
            match is None
            or request.method != b"GET"
            or b"prefer" in fields
            or len(fields) != len(request.headers)
        ):
            return False
        known = fields.get(b"if-none-match")
        if known is not None and not (known[:1] == known[-1:] == b'"' and known[1:-1].isdigit()):
            return False
        try:
            asking = _actor(consumer)
        except GatewayError:
            return False
        job = self._ledger.at_hand(match[1].decode(), asking)
        if job is None or job.details_seq:
            return False
        tag = b'"%d"' % job.event_seq
        if tag == known:
            consumer.reply(304, [(b"etag", tag), _NO_CACHE], b"")
            return True
        body = orjson.dumps(job_document(job))
        if job.details:  # a JSON object too: its members are added to the others
            body = body[:-1] + b"," + job.details[1:]
        consumer.reply(200, [_JSON, (b"etag", tag), _NO_CACHE], body)
        return True

    def takes(self, request: Request) -> bool:
        """Whether ``take`` will answer this request once its body is there."""
        fields = request.fields
        return (
            request.target == _COLLECTION
            and request.method == b"POST"
            and fields.get(b"content-type") == b"application/json"
            and len(fields) == len(request.headers)
        )

    def take(self, consumer: TornadoConsumer, body: bytes) -> None:
        """Submits a job; the answer follows the stream's. No task, for there is one wait."""
        try:
            user = _actor(consumer).user_id
            field = consumer.request.fields.get(b"idempotency-key")
            key = query.idempotency_key([] if field is None else [field.decode("latin-1")])
            request = parse_body(body, self._queue.config.types)
            submission = self._queue.send(request, user_id=user, idempotency_key=key)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
            _fail(consumer, error)
            return
        submission.publish.answer.add_done_callback(partial(self._answered, consumer, submission))

    def _answered(
        self, consumer: TornadoConsumer, submission: Submission, _: asyncio.Future[bytes]
    ) -> None:
        try:
            receipt = self._queue.confirmed(submission)
        except Exception as error:  # noqa: BLE001
            _fail(consumer, error)
            return
        if receipt is None:
            task = asyncio.get_running_loop().create_task(self._repeat(consumer, submission))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            _accept(consumer, receipt)

    async def _repeat(self, consumer: TornadoConsumer, submission: Submission) -> None:
        """The key of this submission has been used before."""
        try:
            receipt = await self._queue.first_receipt(submission)
        except Exception as error:  # noqa: BLE001
            _fail(consumer, error)
            return
        _accept(consumer, receipt)


def _accept(consumer: TornadoConsumer, receipt: Receipt) -> None:
    location = f"{PATH}/{receipt.job_id}".encode()
    body = (_ACCEPTED % (receipt.job_id, receipt.timestamp)).encode()
    consumer.reply(202, [_JSON, _NO_STORE, (b"location", location)], body)


def _fail(consumer: TornadoConsumer, error: Exception) -> None:
    if not isinstance(error, GatewayError):
        fields = {"method": "POST", "request_id": consumer.request_id.decode("latin-1")}
        _log.error("a submission failed", exc_info=error, extra={"fields": fields})
        error = GatewayError("internal")
    consumer.refuse(error)


def _actor(consumer: TornadoConsumer) -> Actor:
    caller = consumer.context.caller
    return UNRESTRICTED if caller is None else actor(caller.user, caller.roles)
