"""``siger.jobs.v1.Jobs``: the jobs API for gRPC clients.

As ``api.jobs`` does for HTTP, this translates between messages and the queue and ledger, and
decides nothing about jobs; who may see what follows from the caller (``jobs.ownership``).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from siger_gateway.api.jobs import HEARTBEAT, resume_at
from siger_gateway.errors import GatewayError
from siger_gateway.grpc import jobs_messages
from siger_gateway.grpc.handlers import streamed, unary
from siger_gateway.grpc.protos.siger.jobs.v1 import jobs_pb2
from siger_gateway.grpc.service import Context, Handlers
from siger_gateway.jobs.ledger import Ledger
from siger_gateway.jobs.ownership import UNRESTRICTED, Actor, actor
from siger_gateway.jobs.queue import JobQueue
from siger_gateway.jobs.status import TERMINAL

Message = Any


def jobs_handlers(queue: JobQueue, ledger: Ledger) -> Handlers:
    """The handlers of the service, by method."""
    jobs = _Jobs(queue, ledger)
    return {
        "Submit": unary(jobs_pb2.SubmitRequest, jobs.submit),
        "Get": unary(jobs_pb2.GetRequest, jobs.get),
        "Cancel": unary(jobs_pb2.CancelRequest, jobs.cancel),
        "List": unary(jobs_pb2.ListRequest, jobs.list),
        "Watch": streamed(jobs_pb2.WatchRequest, jobs.watch),
    }


class _Jobs:
    def __init__(self, queue: JobQueue, ledger: Ledger) -> None:
        self._queue = queue
        self._ledger = ledger

    def _actor(self, context: Context) -> Actor:
        if not self._queue.enabled:
            raise GatewayError("jobs_disabled")
        caller = context.caller
        return UNRESTRICTED if caller is None else actor(caller.user, caller.roles)

    async def submit(self, message: Message, context: Context) -> Message:
        user = self._actor(context).user_id
        job = jobs_messages.read_submit(message, self._queue.config.types)
        receipt = await self._queue.submit(
            job.request, user_id=user, idempotency_key=job.idempotency_key
        )
        return jobs_messages.submitted(receipt.job_id, receipt.timestamp)

    async def get(self, message: Message, context: Context) -> Message:
        asking = self._actor(context)
        asked = jobs_messages.read_get(message)
        if asked.wait:
            async with self._ledger.watch(asked.job_id, asking) as watch:
                job = await self._ledger.changed(watch, asked.seen, asked.wait)
        else:
            job = await self._ledger.get(asked.job_id, asking)
        answer = jobs_messages.job_message(job, {})  # now: the state may move on in the next await
        if job.details or job.details_seq:
            jobs_messages.add_details(answer, await self._ledger.details(job))
        return answer

    async def cancel(self, message: Message, context: Context) -> Message:
        asking = self._actor(context)
        job_id = jobs_messages.read_cancel(message)
        return jobs_messages.cancelling(await self._ledger.cancel(job_id, asking))

    async def list(self, message: Message, context: Context) -> Message:
        asking = self._actor(context)
        asked = jobs_messages.read_list(message)
        jobs, cursor = await self._ledger.list(
            asking,
            limit=asked.limit,
            before=asked.before,
            statuses=asked.statuses,
            types=asked.types,
            tags=asked.tags,
            users=asked.users,
        )
        return jobs_messages.listed(jobs, cursor)

    async def watch(
        self, message: Message, context: Context
    ) -> AsyncGenerator[Message | None, None]:
        """Ends with the job. A drain ends it too, but not as if that was all: the client comes back
        with the last id that it has seen, to another gateway."""
        asking = self._actor(context)
        job_id, seen = jobs_messages.read_watch(message)
        async with self._ledger.watch(job_id, asking) as watch:
            after = await resume_at(self._queue, watch, seen)
            yield None
            if after is None:
                return
            async with aclosing(self._ledger.events(watch, after, HEARTBEAT)) as events:
                async for news in events:
                    for event in news:
                        yield jobs_messages.event_message(job_id, event)
                        if event.status in TERMINAL:
                            return
        raise GatewayError("draining")
