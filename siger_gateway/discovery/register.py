"""The gateway's own entry in Consul, so that others find it.

Registered once the listener is open, kept up (an agent that restarts may have forgotten it), and
taken out before a drain begins, so that nobody is sent to a gateway that is leaving. After
``deregister`` nothing here can bring the entry back.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from contextlib import suppress
from ipaddress import ip_address
from typing import Final

from siger_gateway.config.schema import RegisterConfig
from siger_gateway.discovery.client import FAILURES, Consul

KEEP_UP: Final = 10.0
"""Seconds between looks at whether the agent still knows the gateway."""
RETRY: Final = (0.5, 10.0)
"""Seconds between attempts, first and last; doubled in between."""
CHECK: Final = {"interval": "10s", "timeout": "2s", "DeregisterCriticalServiceAfter": "10m"}
"""The health check; an entry whose process is gone for good removes itself after ten minutes."""
DEREGISTER_TIMEOUT: Final = 2.0
"""Seconds that a drain waits for Consul to take the entry out."""

log = logging.getLogger(__name__)


class Registrar:
    """Registers ``config.name`` with this gateway's address and ``port``.

    :param address: ``host:port`` of the Consul agent.
    """

    def __init__(self, address: str, token: str, config: RegisterConfig, port: int) -> None:
        self._agent_address = address
        self._consul = Consul(address, token)
        self._config = config
        self._port = port
        self._id = ""
        self._task: asyncio.Task[None] | None = None

    @property
    def service_id(self) -> str:
        """The id of the entry; empty until the agent has been reached."""
        return self._id

    def start(self) -> None:
        """Registers in the background, as soon as the agent answers."""
        self._task = asyncio.create_task(self._keep_registered(), name="consul registration")

    async def _keep_registered(self) -> None:
        pause = RETRY[0]
        failing = False
        while True:
            try:
                await self._register_if_missing()
            except FAILURES as error:
                if not failing:
                    failing = True
                    log.warning("not registered in Consul", extra={"fields": {"error": str(error)}})
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, RETRY[1])
            else:
                pause, failing = RETRY[0], False
                await asyncio.sleep(KEEP_UP)

    async def _register_if_missing(self) -> None:
        if self._id and self._id in await self._consul.agent.services():
            return
        address = self._config.address or await self._own_address()
        local = _is_loopback(self._agent_address)
        probe = "127.0.0.1" if local and not self._config.address else address
        self._id = f"{self._config.name}-{socket.gethostname()}-{self._port}"
        await self._consul.agent.service.register(
            self._config.name,
            service_id=self._id,
            address=address,
            port=self._port,
            tags=list(self._config.tags),
            check={
                **CHECK,
                "http": f"http://{_bracketed(probe)}:{self._port}/health/ready",
                "status": "passing",  # it is serving: the first check need not come first
            },
        )
        log.info(
            "registered in Consul",
            extra={"fields": {"id": self._id, "address": f"{_bracketed(address)}:{self._port}"}},
        )

    async def _own_address(self) -> str:
        """The address under which others reach this machine.

        Next to a local agent that is what the agent itself advertises; else the address from
        which the agent is reached (connecting a UDP socket sends nothing, it only picks one).
        """
        if _is_loopback(self._agent_address):
            description = await self._consul.agent.self()
            return str(description["Member"]["Addr"])
        host, _, port = self._agent_address.rpartition(":")
        family, kind, _, _, target = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_DGRAM
        )[0]
        with socket.socket(family, kind) as probe:
            probe.connect(target)
            return str(probe.getsockname()[0])

    async def deregister(self) -> None:
        """Takes the entry out, within ``DEREGISTER_TIMEOUT``; final."""
        await self._stop()
        if not self._id:
            return
        try:
            async with asyncio.timeout(DEREGISTER_TIMEOUT):
                await self._consul.agent.service.deregister(self._id)
        except (*FAILURES, TimeoutError) as error:
            log.warning("not deregistered from Consul", extra={"fields": {"error": str(error)}})
        else:
            log.info("deregistered from Consul", extra={"fields": {"id": self._id}})
        self._id = ""

    async def _stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def close(self) -> None:
        await self._stop()
        self._consul.http.close()


def _is_loopback(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
