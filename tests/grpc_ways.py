"""The ways through a gateway on which grpc's interop cases run, whatever is at their ends."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc

from tests.certificates import NAME, Authority
from tests.grpc_js import GrpcJsService
from tests.grpc_services import GrpcService, routed
from tests.running import RunningGateway

Service = GrpcService | GrpcJsService


@dataclass(frozen=True, slots=True)
class Certified:
    """An authority, and what it has issued to a gateway and to the service behind it."""

    authority: Authority
    pair: tuple[Path, Path]

    @property
    def server(self) -> grpc.ServerCredentials:
        cert, key = self.pair
        return grpc.ssl_server_credentials([(key.read_bytes(), cert.read_bytes())])

    @property
    def client(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(self.authority.file.read_bytes())


def certified(folder: Path) -> Certified:
    authority = Authority(folder)
    return Certified(authority, authority.issue("server", NAME, "127.0.0.1"))


@dataclass(frozen=True, slots=True)
class Gateways:
    """One without TLS on any side, one with TLS on both."""

    plain: RunningGateway
    secure: RunningGateway


@contextlib.asynccontextmanager
async def gateways(
    folder: Path, plain: Service, secure: Service, certified: Certified
) -> AsyncIterator[Gateways]:
    """The gateways, each in front of its service; stops the services too."""
    folders = folder / "plain", folder / "secure"
    for one in folders:
        one.mkdir()
    cert, key = certified.pair
    to_plain = routed(plain, rest='grpc: {port: "127.0.0.1:0"}\n')
    to_secure = routed(
        secure,
        service=f", protocol: h2, tls: {{ca: {certified.authority.file}}}",
        rest=f"tls: {{cert: {cert}, key: {key}}}\n",
    )
    started = Gateways(RunningGateway(folders[0], to_plain), RunningGateway(folders[1], to_secure))
    try:
        await started.plain.start()
        await started.secure.start()
        yield started
    finally:
        for gateway in (started.plain, started.secure):
            await gateway.stop()
        for service in (plain, secure):
            await service.stop()
