"""``/api/v1/jobs``: submitting, following and cancelling jobs.

The handlers translate between HTTP and the queue and ledger, and decide nothing about jobs. Who
may see what follows from the caller of the request (``jobs.ownership``), here in ``prepare``.
A job's ``ETag`` is the sequence of its last event in the stream, which is also the ``id:`` of that
event in its event stream; so a client that knows one can go on with the other.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final
from urllib.parse import urlencode

from tornado.iostream import StreamClosedError

from siger_gateway.api.documents import FRAMES, job_document
from siger_gateway.api.handler import ApiHandler
from siger_gateway.api.openapi import OpenApiHandler
from siger_gateway.errors import GatewayError
from siger_gateway.jobs import moments, query
from siger_gateway.jobs.job import parse_body, parse_job_id
from siger_gateway.jobs.ledger import Ledger, Watch
from siger_gateway.jobs.ownership import UNRESTRICTED, Actor, actor
from siger_gateway.jobs.queue import JobQueue
from siger_gateway.jobs.status import (
    CANCELLING,
    MESSAGES,
    QUEUED,
    STATUSES,
    JobState,
)

PATH: Final = "/api/v1/jobs"
HEARTBEAT: Final = 15.0
"""Seconds of silence after which an event stream gets a comment, so that nobody closes it."""
RETRY: Final = 2000
"""Milliseconds after which a client should come back to an event stream that ended early."""


def jobs_routes(
    queue: JobQueue | None, ledger: Ledger | None
) -> list[tuple[str, type[ApiHandler], dict[str, Any]]]:
    """The jobs endpoints and ``/openapi.json``, for ``tornado.web.Application``.

    :param queue: None (as ``ledger``), or without servers, when no queue is configured: the jobs
        endpoints then answer 503 ``jobs_disabled``.
    """
    parts = {"queue": queue, "ledger": ledger}
    return [
        (PATH, JobsHandler, parts),
        (PATH + r"/([^/]+)", JobHandler, parts),
        (PATH + r"/([^/]+)/events", JobEventsHandler, parts),
        (r"/openapi\.json", OpenApiHandler, {}),
    ]


class _JobsEndpoint(ApiHandler):
    """What the three have in common."""

    queue: JobQueue
    ledger: Ledger
    actor: Actor

    def initialize(self, queue: JobQueue | None, ledger: Ledger | None) -> None:
        self._watch: Watch | None = None
        self._has_client = True
        if queue is not None and ledger is not None and queue.enabled:
            self.queue, self.ledger = queue, ledger

    def prepare(self) -> None:
        if not hasattr(self, "queue"):
            raise GatewayError("jobs_disabled")
        caller = self.caller
        self.actor = UNRESTRICTED if caller is None else actor(caller.user, caller.roles)

    def arguments(self, name: str) -> list[str]:
        """The values of a parameter of the query string."""
        return query.values(name, self.request.query_arguments)

    @contextlib.asynccontextmanager
    async def watching(self, job_id: str) -> AsyncIterator[Watch]:
        """A watch that is closed when the client goes away, or has gone during the look-up."""
        async with self.ledger.watch(job_id, self.actor) as watch:
            self._watch = watch
            if not self._has_client:
                watch.close()
            yield watch

    def on_connection_close(self) -> None:
        self._has_client = False
        if self._watch is not None:
            self._watch.close()


class JobsHandler(_JobsEndpoint):
    """``POST`` and ``GET /api/v1/jobs``."""

    async def post(self) -> None:
        media_type = self.request.headers.get("Content-Type", "").partition(";")[0]
        if media_type.strip().lower() != "application/json":
            raise GatewayError("unsupported_media_type")
        key = query.idempotency_key(self.request.headers.get_list("Idempotency-Key"))
        request = parse_body(self.request.body, self.queue.config.types)
        receipt = await self.queue.submit(request, user_id=self.actor.user_id, idempotency_key=key)
        self.set_header("Location", f"{PATH}/{receipt.job_id}")
        document = {
            "job_id": receipt.job_id,
            "status": QUEUED,
            "timestamp": receipt.timestamp,
            "message": MESSAGES[QUEUED],
        }
        self.send_json(document, 202)

    async def get(self) -> None:
        arguments = self.arguments
        limit = query.whole("limit", arguments("limit"), 1, query.MAX_LIMIT)
        before = query.whole("cursor", arguments("cursor"), 1, query.MAX_SEQUENCE)
        jobs, cursor = await self.ledger.list(
            self.actor,
            limit=limit or query.DEFAULT_LIMIT,
            before=before,
            statuses=query.one_of("status", arguments("status"), STATUSES),
            types=query.tokens("type", arguments("type")),
            tags=query.texts("tag", arguments("tag")),
            users=query.users("user", arguments("user")),
        )
        if cursor is not None:
            kept = [
                (name, value)
                for name in ("status", "type", "tag", "user", "limit")
                for value in arguments(name)
            ]
            target = f"{PATH}?{urlencode([*kept, ('cursor', str(cursor))])}"
            self.set_header("Link", f'<{target}>; rel="next"')
        next_cursor = None if cursor is None else str(cursor)
        self.send_json({"jobs": [job_document(job) for job in jobs], "next_cursor": next_cursor})


class JobHandler(_JobsEndpoint):
    """``GET`` and ``DELETE /api/v1/jobs/{job_id}``."""

    async def get(self, path_id: str) -> None:
        job_id = parse_job_id(path_id)
        wait = query.wait(self.arguments("wait"))
        if wait is None:
            wait = query.preferred_wait(self.request.headers.get("Prefer", ""))
            if wait is not None:
                self.set_header("Preference-Applied", f"wait={wait:.0f}")
        if wait:
            seen = query.entity_tag(self.request.headers.get("If-None-Match", ""))
            async with self.watching(job_id) as watch:
                job = await self.ledger.changed(watch, seen, wait)
        else:
            job = await self.ledger.get(job_id, self.actor)
        self.set_header("ETag", f'"{job.event_seq}"')
        self.set_header("Cache-Control", "no-cache")
        if self.check_etag_header():
            self.set_status(304)
            self.finish()
            return
        document = job_document(job)  # before the next await: the state may move on meanwhile
        if job.details or job.details_seq:
            document.update(await self.ledger.details(job))
        self.send_json(document)

    async def delete(self, path_id: str) -> None:
        job_id = parse_job_id(path_id)
        job = await self.ledger.cancel(job_id, self.actor)
        document = {
            "job_id": job_id,
            "status": CANCELLING,
            "timestamp": moments.write(job.timestamp),
            "message": MESSAGES[CANCELLING],
        }
        self.send_json(document, 202)


class JobEventsHandler(_JobsEndpoint):
    """``GET /api/v1/jobs/{job_id}/events``: server-sent events, from the first one on.

    The stream ends with the job. A browser would then come back with ``Last-Event-ID`` for more
    and is told 204, which makes it stop.
    """

    async def get(self, path_id: str) -> None:
        job_id = parse_job_id(path_id)
        last_id = self.request.headers.get("Last-Event-ID", "")
        after = query.whole("Last-Event-ID", [last_id] if last_id else [], 0, query.MAX_SEQUENCE)
        async with self.watching(job_id) as watch:
            after = await resume_at(self.queue, watch, after or 0)
            if after is None:
                self.set_status(204)
                return
            self.set_header("Content-Type", "text/event-stream; charset=utf-8")
            self.set_header("Cache-Control", "no-store")
            self.set_header("X-Accel-Buffering", "no")
            await self.flush()
            connection = self.request.connection
            assert connection is not None
            await connection.write(b"retry: %d\n\n" % RETRY)
            events = self.ledger.events(watch, after, HEARTBEAT)
            with contextlib.suppress(StreamClosedError):
                async with contextlib.aclosing(events):
                    async for news in events:
                        frames = [FRAMES.of(job_id, event) for event in news]
                        # Past the handler's own buffers; waits for a client that reads slowly.
                        await connection.write(b"".join(frames) or b": still here\n\n")


async def resume_at(queue: JobQueue, watch: Watch, after: int) -> int | None:
    """The sequence to go on after; None when the client has seen the end of the job.

    :param after: of the last event that the client has seen; 0: none.
    """
    job: JobState | None = watch.job
    if after > watch.job.event_seq:  # seen at a gateway that has read further?
        job = await queue.find(watch.job.job_id, watch.actor)
    if job is None or after > job.event_seq:
        return 0  # not an id of this job's events: tell everything
    return None if job.is_terminal and after == job.event_seq else after
