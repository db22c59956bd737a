"""A request whose filter has to ask somebody: nothing is handed on until the answer is there.

What has already arrived of its body stays where the wire has put it. Whoever answers the request in
the end gets it as if the request had come just then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from siger_gateway.errors import GatewayError
from siger_gateway.filters.filter import Verdict
from siger_gateway.http.headers import Headers
from siger_gateway.http.message import ProtocolError
from siger_gateway.http.stream import Consumer
from siger_gateway.proxy.arrival import Arrival

log = logging.getLogger(__name__)


class Held:
    """The consumer of a request until it is known whether it may pass.

    :param verdict: what the filter says, once it knows.
    :param go_on: the consumer that follows from it.
    """

    __slots__ = ("_arrival", "_go_on", "_task", "_verdict")

    def __init__(
        self,
        arrival: Arrival,
        verdict: Awaitable[Verdict],
        go_on: Callable[[Verdict], Consumer],
    ) -> None:
        self._arrival = arrival
        self._verdict = verdict
        self._go_on = go_on
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._arrival.call.stream.hold()
        self._task = asyncio.get_running_loop().create_task(self._wait())

    async def _wait(self) -> None:
        try:
            verdict = await self._verdict
        except (Exception, asyncio.CancelledError):
            if self._task is not None and self._task.cancelling():
                return  # the client has gone; else what is cancelled is what the filter waits for
            request_id = self._arrival.request_id.decode("latin-1")
            log.exception("a filter failed", extra={"fields": {"request_id": request_id}})
            verdict = GatewayError("internal")
        self._arrival.call.stream.hand_over(self._go_on(verdict))

    def on_downstream_closed(self) -> None:
        assert self._task is not None
        self._task.cancel()
        self._arrival.close(499, "downstream_closed")

    # The wire hands nothing on while it is held.

    def on_data(self, data: bytes) -> None: ...

    def on_end(self, trailers: Headers) -> None: ...

    def on_request_error(self, error: ProtocolError) -> None: ...

    def pause_response(self) -> None: ...

    def resume_response(self) -> None: ...
