"""What is known of each service that takes JSON: read from its file, or learned by asking it.

As in ``descriptor_files``, nothing of protobuf is loaded for a gateway without such services.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from siger_gateway.config.schema import ServiceConfig
from siger_gateway.grpc.descriptor_files import read_file
from siger_gateway.upstream.cluster import Cluster

if TYPE_CHECKING:
    from siger_gateway.grpc.reflected import Reflected
    from siger_gateway.grpc.transcoding import Transcoder


class Described(Protocol):
    """One service. ``transcoder``: None as long as it is not known what the service offers."""

    @property
    def transcoder(self) -> Transcoder | None: ...


@dataclass(frozen=True, slots=True)
class FromFile:
    transcoder: Transcoder


class Descriptions:
    """:param cluster: a service as it is now; raises ``KeyError`` where there is none."""

    def __init__(self, cluster: Callable[[str], Cluster]) -> None:
        self._cluster = cluster
        self._reflected: dict[str, Reflected] = {}
        self.known: Mapping[str, Described] = {}
        """By name of the service."""

    def prepare(self, services: Mapping[str, ServiceConfig]) -> Callable[[], None]:
        """Reads all files anew; what is returned takes over what is in them, and has the services
        asked that describe themselves. Those that are being asked already go on.

        :raises ConfigError: a file cannot be used; then nothing changes.
        """
        known: dict[str, Described] = {}
        reflected: dict[str, Reflected] = {}
        for name, service in services.items():
            config = service.transcode
            if config.by_reflection:
                known[name] = reflected[name] = self._asked(name, service)
            elif config.descriptors:
                known[name] = FromFile(read_file(name, config))

        def take_over() -> None:
            replaced, self._reflected = self._reflected, reflected
            self.known = known
            for name, one in replaced.items():
                if reflected.get(name) is not one:
                    one.stop()
            for one in reflected.values():
                one.start()

        return take_over

    def _asked(self, name: str, service: ServiceConfig) -> Reflected:
        from siger_gateway.grpc.reflected import Reflected

        present = self._reflected.get(name)
        if present is not None and present.config == service.transcode:
            return present
        return Reflected(name, service.transcode, self._cluster)

    async def close(self) -> None:
        for one in self._reflected.values():
            await one.close()
