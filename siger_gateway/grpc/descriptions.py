"""How the services that are transcoded are described: by files, and by themselves.

Nothing of protobuf is imported before there is such a service.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from siger_gateway.config.schema import ServiceConfig
from siger_gateway.grpc.descriptor_files import transcoders
from siger_gateway.telemetry.metrics import Metrics, Samples
from siger_gateway.upstream.cluster import Cluster

if TYPE_CHECKING:
    from siger_gateway.grpc.reflected import Reflected
    from siger_gateway.grpc.transcoding import Transcoder

EVERY: Final = 1.0
"""Seconds between two looks at the endpoints of services that describe themselves."""


class Descriptions:
    """Of all services of one gateway, kept over reloads.

    :param cluster: by the name of its service.
    :raises ConfigError: a file cannot be used.
    """

    def __init__(
        self,
        services: Mapping[str, ServiceConfig],
        cluster: Callable[[str], Cluster],
        metrics: Metrics,
    ) -> None:
        self._cluster = cluster
        self._metrics = metrics
        self._reflected: dict[str, Reflected] = {}
        self._started = False
        self._next = 0.0
        self._closing: set[asyncio.Task[None]] = set()
        self.transcoders: Mapping[str, Transcoder | Reflected] = {}
        """By the name of the service."""
        self.prepare(services)()

    def start(self) -> None:
        """Asks those that describe themselves, from now on."""
        self._started = True
        for one in self._reflected.values():
            one.start()

    def prepare(self, services: Mapping[str, ServiceConfig]) -> Callable[[], None]:
        """Reads the files anew; what is returned takes everything over, and cannot fail.

        What services have told stays in use, and they are asked again.

        :raises ConfigError: as the constructor; then nothing has changed.
        """
        files = transcoders(services)
        reflected = {
            name: self._kept_or_new(name, service)
            for name, service in services.items()
            if service.transcode.by_reflection
        }

        def take_over() -> None:
            before, self._reflected = self._reflected, reflected
            self.transcoders = {**files, **reflected}
            if reflected:
                self._metrics.gauge(
                    "siger_reflected_rules",
                    "Rules for JSON in use that the service has told itself; 0: awaited.",
                    ("service",),
                    self._samples,
                )
            for name, one in reflected.items():
                if before.get(name) is one:
                    one.ask_again()
                elif self._started:
                    one.start()
            for name, one in before.items():
                if reflected.get(name) is not one:
                    self._close(one)

        return take_over

    def _kept_or_new(self, name: str, service: ServiceConfig) -> Reflected:
        from siger_gateway.grpc.reflected import Reflected

        before = self._reflected.get(name)
        if before is not None and before.config == service.transcode:
            return before
        return Reflected(name, service.transcode, partial(self._cluster, name), before)

    def _close(self, one: Reflected) -> None:
        task = asyncio.get_running_loop().create_task(one.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def look(self, now: float) -> None:
        """For every tick.

        :param now: the loop's time.
        """
        if self._reflected and now >= self._next:
            self._next = now + EVERY
            for one in self._reflected.values():
                one.look()

    async def close(self) -> None:
        closing = [one.close() for one in self._reflected.values()]
        await asyncio.gather(*closing, *self._closing)

    def _samples(self) -> Samples:
        return [((name,), one.rules) for name, one in self._reflected.items()]
