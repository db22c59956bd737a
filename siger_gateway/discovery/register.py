"""The gateway's own registration in Consul: kept for as long as it serves, then gone for good.

A background task registers, and looks every few seconds whether the agent still knows: an agent
that was restarted without its data does not. ``deregister`` ends that task before it says goodbye,
and waits for a registration that is on its way: cut off, it might arrive after the goodbye and
send traffic to a gateway that has stopped. Should even the goodbye fail, Consul's health check
does, and Consul removes the instance by itself.

The id is ``name-host-port``. Gateways that share a port of one machine (``SO_REUSEPORT``) share
the registration too: when one of them stops, another renews it at its next look.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
from ipaddress import ip_address
from typing import Any, Final, Literal

from consul.check import Check
from consul.exceptions import ConsulException

from siger_gateway.config.schema import RegisterConfig
from siger_gateway.discovery.backoff import backoff
from siger_gateway.discovery.consul_client import ConsulClient, split_address

RENEW_INTERVAL: Final = 5.0
"""Seconds between looks whether the agent still knows this gateway: one small local request."""
DEREGISTER_TIMEOUT: Final = 2.0
"""Seconds that leaving may take, of the shutdown's time."""
CHECK_INTERVAL: Final = "10s"
CHECK_TIMEOUT: Final = "2s"
REMOVE_AFTER: Final = "10m"
"""A gateway that has been failing for this long is removed by Consul."""

Probe = Literal["http", "https", "tcp"]
"""How Consul's agent looks whether the gateway is ready. ``tcp`` is for a gateway whose clients
need certificates, since the agent has none: it only sees that the port is open."""

log = logging.getLogger(__name__)


class Registrar:
    """Registers this gateway.

    :param address: ``host:port`` of the agent.
    :param config: under which name, and where others reach the gateway.
    :param port: on which it listens; an address with a port in ``config`` takes precedence.
    :param probe: how it can be asked; but for ``http``, it is registered as speaking https.
    :param check_path: what Consul asks to see whether it is ready.
    """

    def __init__(
        self,
        address: str,
        token: str,
        config: RegisterConfig,
        port: int,
        *,
        probe: Probe = "http",
        check_path: str = "/health/ready",
        renew_interval: float = RENEW_INTERVAL,
    ) -> None:
        self._client = ConsulClient(address, token)
        self._config = config
        self._host, self._port = _split_configured(config.address, port)
        self._probe = probe
        self._check_path = check_path
        self._renew_interval = renew_interval
        self._task: asyncio.Task[None] | None = None
        self._sending: asyncio.Task[None] | None = None
        self._leaving = False
        self.registered = False
        """Whether the agent was told, as far as we know."""
        self.service_id = f"{config.name}-{socket.gethostname()}-{self._port}"

    def __repr__(self) -> str:
        return f"<Registrar {self.service_id} {'registered' if self.registered else 'absent'}>"

    def start(self) -> None:
        """Registers in the background, for as long as it takes, and returns at once."""
        if self._task is None and not self._leaving:
            self._task = asyncio.create_task(self._keep(), name="consul registration")

    def ask_by(self, probe: Probe) -> None:
        """The gateway is to be asked in this way from now on: Consul learns it at the next look."""
        if probe != self._probe:
            self._probe = probe
            self.registered = False

    async def deregister(self) -> None:
        """Leaves Consul, in ``DEREGISTER_TIMEOUT`` seconds at most. Nothing registers afterwards,
        whether it succeeds or not."""
        self._leaving = True
        await self._end_task()
        if self._sending is None:
            return
        try:
            async with asyncio.timeout(DEREGISTER_TIMEOUT):
                await self._settle_sending()
                await self._client.deregister(self.service_id)
        except (OSError, ConsulException) as error:
            fields = {"id": self.service_id, "error": str(error) or type(error).__name__}
            level = logging.WARNING if self.registered else logging.DEBUG
            log.log(level, "not deregistered; Consul's check will do it", extra={"fields": fields})
        else:
            log.info("deregistered", extra={"fields": {"id": self.service_id}})
        self.registered = False
        self._sending = None

    async def close(self) -> None:
        """Stops without a word to Consul: ``deregister`` comes before it."""
        self._leaving = True
        await self._end_task()
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)
        await self._client.close()

    async def _end_task(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _settle_sending(self) -> None:
        """Waits for a registration under way, and cuts it off when it takes too long."""
        if self._sending is not None:
            await asyncio.wait([self._sending], timeout=DEREGISTER_TIMEOUT / 2)
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)

    async def _keep(self) -> None:
        failures = 0
        while True:
            try:
                if not (self.registered and await self._client.has_service(self.service_id)):
                    # In a task of its own, so that cancelling this one does not cut it off.
                    self._sending = asyncio.create_task(self._register())
                    await asyncio.shield(self._sending)
            except Exception as error:  # this task must outlive whatever it is
                failures += 1
                if failures == 1:
                    fields = {"id": self.service_id, "error": str(error) or type(error).__name__}
                    unforeseen = not isinstance(error, OSError | ConsulException)
                    log.warning(
                        "not registered in Consul; trying on",
                        extra={"fields": fields},
                        exc_info=unforeseen,
                    )
                await asyncio.sleep(backoff(failures))
            else:
                failures = 0
                await asyncio.sleep(self._renew_interval * random.uniform(0.9, 1.1))

    async def _register(self) -> None:
        probe = self._probe
        host = self._host or await self._reachable_address()
        authority = f"[{host}]" if ":" in host else host
        await self._client.register(
            self.service_id,
            self._config.name,
            host,
            self._port,
            self._config.tags,
            {} if probe == "http" else {"protocol": "https"},
            self._check(authority, probe),
        )
        fields = {"id": self.service_id, "address": f"{authority}:{self._port}"}
        log.info("registered in Consul", extra={"fields": fields})
        self.registered = probe == self._probe

    def _check(self, authority: str, probe: Probe) -> dict[str, Any]:
        if probe == "tcp":
            check = Check.tcp(authority, self._port, CHECK_INTERVAL, CHECK_TIMEOUT, REMOVE_AFTER)
        else:
            url = f"{probe}://{authority}:{self._port}{self._check_path}"
            check = Check.http(url, CHECK_INTERVAL, CHECK_TIMEOUT, REMOVE_AFTER)
        if probe == "https":
            check["TLSSkipVerify"] = True  # it asks by address, and wants to know about health
        check["status"] = "passing"  # it serves: without this it is absent until the first check
        return dict(check)

    async def _reachable_address(self) -> str:
        """The local address from which the agent is reached.

        When that is the loopback, the agent is on this machine, and the address that it advertises
        is one at which other machines find us.
        """
        found = await asyncio.get_running_loop().getaddrinfo(
            self._client.host, self._client.port, type=socket.SOCK_DGRAM
        )
        family, kind, protocol, _, remote = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(remote)  # of a datagram socket: chooses a route and sends nothing
            address = str(probe.getsockname()[0])
        if ip_address(address.partition("%")[0]).is_loopback:
            with contextlib.suppress(ConsulException):  # its ACL may forbid that
                return await self._client.agent_address()
        return address


def _split_configured(address: str, port: int) -> tuple[str, int]:
    """``RegisterConfig.address`` is a host, or host and port; IPv6 is bare, or in brackets."""
    try:
        return str(ip_address(address.strip("[]"))), port
    except ValueError:
        return split_address(address) if ":" in address else (address, port)
