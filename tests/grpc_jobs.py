"""Clients of ``siger.jobs.v1`` for the tests: grpcio, with what a generated stub would do."""

from __future__ import annotations

from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc import aio
from grpc_status import rpc_status

from siger_gateway.grpc.protos.siger.jobs.v1 import jobs_pb2

BOUND = 15.0
"""Seconds in which every call has to end."""

_METHODS = {
    "Submit": (jobs_pb2.SubmitRequest, jobs_pb2.SubmitResponse),
    "Get": (jobs_pb2.GetRequest, jobs_pb2.Job),
    "Cancel": (jobs_pb2.CancelRequest, jobs_pb2.CancelResponse),
    "List": (jobs_pb2.ListRequest, jobs_pb2.ListResponse),
}


class JobsStub:
    """:param credentials: of everything that is called, as metadata."""

    def __init__(self, channel: aio.Channel, *credentials: tuple[str, str]) -> None:
        self._channel = channel
        self._credentials = credentials

    async def call(self, method: str, **fields: Any) -> Any:
        request, response = _METHODS[method]
        ask = self._channel.unary_unary(
            f"/siger.jobs.v1.Jobs/{method}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )
        return await ask(request(**fields), metadata=self._credentials, timeout=BOUND)

    async def submit(self, **fields: Any) -> str:
        answer = await self.call("Submit", **{"type": "train", "name": "a job", **fields})
        return str(answer.job_id)

    def watch(self, job_id: str, after: int = 0, timeout: float = BOUND) -> Any:
        ask = self._channel.unary_stream(
            "/siger.jobs.v1.Jobs/Watch",
            request_serializer=jobs_pb2.WatchRequest.SerializeToString,
            response_deserializer=jobs_pb2.Event.FromString,
        )
        request = jobs_pb2.WatchRequest(job_id=job_id, after=after)
        return ask(request, metadata=self._credentials, timeout=timeout)


class Refused:
    """What a call was refused with."""

    def __init__(self, error: aio.AioRpcError) -> None:
        self.code: grpc.StatusCode = error.code()
        self.text = error.details()
        status = rpc_status.from_call(error)
        details = [] if status is None else status.details
        self.reason = ""
        self.metadata: dict[str, str] = {}
        self.fields: list[str] = []
        for one in details:
            info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
            if one.Unpack(info):
                self.reason, self.metadata = info.reason, dict(info.metadata)
            elif one.Unpack(bad):
                self.fields = [violation.field for violation in bad.field_violations]


async def refused(call: Any) -> Refused:
    """How ``call`` is refused; it has to be."""
    try:
        await call
    except aio.AioRpcError as error:
        return Refused(error)
    raise AssertionError("it was not refused")


async def events(watch: Any) -> list[Any]:
    """All that is still to come of a watch."""
    seen = []
    while (event := await watch.read()) is not aio.EOF:
        seen.append(event)
    return seen
