"""``grpc.health.v1.Health``: of the gateway itself, and of each service by its configured name."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from siger_gateway.api.serving import Serving
from siger_gateway.errors import GatewayError
from siger_gateway.grpc.handlers import streamed, unary
from siger_gateway.grpc.protos.grpc_health.v1 import health_pb2
from siger_gateway.grpc.service import Context, Handlers

Message = Any

_STATUS = health_pb2.HealthCheckResponse.ServingStatus.Value


def health_handlers(serving: Serving) -> Handlers:
    """The handlers of the service, by method."""

    async def check(message: Message, context: Context) -> Message:
        known = serving.of(message.service)
        if known is None:
            raise GatewayError("not_found", "There is no such service.")
        return _answer(known)

    async def watch(message: Message, context: Context) -> AsyncGenerator[Message, None]:
        """Never ends by itself; a drain says so first, and then ends it."""
        with serving.following() as changed:
            last = None
            while True:
                answer = _answer(serving.of(message.service))
                if answer != last:
                    last = answer
                    yield answer
                if serving.draining:
                    raise GatewayError("draining")
                await changed.wait()
                changed.clear()

    request = health_pb2.HealthCheckRequest
    return {"Check": unary(request, check), "Watch": streamed(request, watch)}


def _answer(known: bool | None) -> Message:
    name = "SERVICE_UNKNOWN" if known is None else "SERVING" if known else "NOT_SERVING"
    return health_pb2.HealthCheckResponse(status=_STATUS(name))
