"""One NATS connection that is made again for as long as the process lives.

nats-py can reconnect by itself, but then it keeps what was published while it was away and sends
it whenever the server is back: a submission that a client was told had failed would become a job
minutes later. So a client object lives for exactly one connection here. When that one is lost,
everything that waited for an answer is told at once, what was not sent is gone, and a new object
is made; whoever had subscriptions makes them again in ``set_up``, which runs on every connection
before anybody else may use it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Final

import nats.errors
import nats.js.errors
from nats.aio.client import Client

from siger_gateway.jobs.wire import NoAnswer, Wire

__all__ = ["Connection", "NoAnswer", "NotConnected", "SetUpFailed", "end"]

CONNECT_TIMEOUT: Final = 3.0
"""Seconds for TCP, TLS and the greeting, for all servers of the list together."""
PING_INTERVAL: Final = 2
"""Seconds between pings: a server that hangs is given up after three of them."""
BACKOFF: Final = (0.1, 2.0)
"""Seconds between attempts, first and last; doubled in between, with jitter."""
POLL: Final = 0.5
"""Seconds between looks at whether the client is still alive, where its callback did not come."""

_log = logging.getLogger(__name__)


class NotConnected(Exception):
    """Nothing was sent."""


class SetUpFailed(Exception):
    """The server is there but cannot be used as it is; the text says why."""


class Connection:
    """Keeps one connection open.

    :param servers: ``host:port`` or URLs, separated by commas.
    :param name: how the server's monitoring shows this client.
    :param set_up: called with every new client; when it raises ``SetUpFailed`` or an error of
        nats-py, the connection is closed and tried again later.
    """

    def __init__(
        self, servers: str, name: str, set_up: Callable[[Client], Awaitable[None]]
    ) -> None:
        self._servers = [server.strip() for server in servers.split(",") if server.strip()]
        self._name = name
        self._set_up = set_up
        self._client: Client | None = None
        self._lost = asyncio.Event()
        self._found = asyncio.Event()
        self._wire: Wire | None = None
        self._task: asyncio.Task[None] | None = None
        self._discovered: list[str] = []
        self.problem = "not started" if self._servers else "no server is configured"
        """Why there is no connection, for people; empty while there is one."""

    def __repr__(self) -> str:
        return f"<Connection {self._name} {'up' if self.connected else self.problem}>"

    @property
    def connected(self) -> bool:
        return self._client is not None and self._client.is_connected

    def client(self) -> Client:
        """The client in use.

        :raises NotConnected: there is none.
        """
        if self._client is None or not self._client.is_connected:
            raise NotConnected(self.problem or "connection lost")
        return self._client

    async def wait(self) -> Client:
        """Waits, for as long as it takes, until there is a connection."""
        while not self.connected:
            self._found.clear()
            await self._found.wait()
        return self.client()

    def start(self) -> None:
        """Begins to connect in the background and returns at once."""
        if self._task is None and self._servers:
            self.problem = "connecting"
            self._task = asyncio.create_task(self._run(), name=f"nats {self._name}")

    async def close(self) -> None:
        """Closes; what still waits for an answer gets ``NoAnswer``."""
        if self._task is not None:
            await end([self._task])
            self._task = None
        self.problem = "closed"

    @property
    def wire(self) -> Wire:
        """The direct way of the client in use.

        :raises NotConnected: there is none.
        """
        self.client()
        assert self._wire is not None
        return self._wire

    def request(
        self, subject: str, payload: bytes, timeout: float, headers: dict[str, str]
    ) -> asyncio.Future[bytes]:
        """Sends; see ``Wire.request`` for what to await.

        :param timeout: seconds.
        :raises NotConnected: nothing was sent.
        :raises nats.errors.MaxPayloadError: it is larger than the server takes.
        """
        return self.wire.request(subject, payload, timeout, headers)

    async def _run(self) -> None:
        pause = BACKOFF[0]
        while True:
            self._lost.clear()
            client = Client()
            try:
                wire = await self._open(client)
                await self._set_up(client)
            except asyncio.CancelledError:
                await _discard(client)
                raise
            except Exception as error:  # noqa: BLE001 - this task must outlive whatever it is
                if not isinstance(error, nats.errors.Error | OSError | SetUpFailed | NoAnswer):
                    _log.exception("connecting to NATS failed in a way that nobody foresaw")
                self._note(_say(error))
                await _discard(client)
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, BACKOFF[1])
                continue
            pause = BACKOFF[0]
            self._client, self._wire = client, wire
            self._note("")
            self._found.set()
            try:
                await self._until_lost(client)
            finally:
                self._client = self._wire = None
                wire.give_up()
                self._discovered = [uri.netloc for uri in client.discovered_servers]
                await _discard(client)
            self._note("connection lost")
            await asyncio.sleep(random.uniform(0.0, BACKOFF[0]))

    async def _open(self, client: Client) -> Wire:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await client.connect(
                servers=[*self._servers, *self._discovered],
                name=self._name,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0.05,
                connect_timeout=CONNECT_TIMEOUT,
                ping_interval=PING_INTERVAL,
                max_outstanding_pings=2,
                error_cb=self._on_error,
                closed_cb=self._on_closed,
            )
            wire = Wire(client)
            await wire.open()
            return wire

    async def _until_lost(self, client: Client) -> None:
        """Returns when the client is closed. nats-py's callback is not called on every path."""
        while client.is_connected and not self._lost.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL):
                    await self._lost.wait()

    async def _on_error(self, error: Exception) -> None:
        _log.debug("NATS client: %s", _say(error))

    async def _on_closed(self) -> None:
        self._lost.set()

    def _note(self, problem: str) -> None:
        """Logs a change of what is wrong, once, however often it is met."""
        if problem == self.problem:
            return
        self.problem = problem
        fields = {"connection": self._name, "problem": problem}
        if problem:
            _log.warning("NATS is not available", extra={"fields": fields})
        else:
            _log.info("NATS is connected", extra={"fields": fields})


def _say(error: BaseException) -> str:
    """What is wrong, in words; some errors of nats-py and asyncio have no text."""
    return str(error) or type(error).__name__


async def _discard(client: Client) -> None:
    """Closes a client whatever state it is in; a dead socket must not keep us."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(2.0):
            await client.close()


async def end(tasks: Collection[asyncio.Task[Any]], again: float = 1.0) -> None:
    """Cancels tasks until they are over.

    Once is not always enough: ``asyncio.wait_for`` of Python 3.11, which nats-py uses everywhere,
    loses a cancellation that comes together with its result (cpython #86296).

    :param again: seconds that a task gets to clean up before it is cancelled once more.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=again)
