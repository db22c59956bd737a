"""The Consul watcher: one blocking query per service in the background, whole tables as a result.

What is believed, and what is not:

- Passing instances only. An empty ``Service.Address`` means the node's address.
- Consul away, or answering nonsense: the last good table stays, its age is a metric, and the
  query is repeated with growing pauses. Routes never drop because Consul is down.
- Suddenly no instance at all: a missing token makes Consul answer exactly that, so it is only
  believed when the instances are still registered (and so are really unhealthy), or when it stays
  that way for ``EMPTY_GRACE``.
- An index that goes down means that Consul's state began anew: start again from 0.
- Once a minute everything is asked again without an index, which heals whatever was missed.

Up to ``MAX_WATCHES`` queries are open at a time. With more services than that they take turns
with short waits, because an agent accepts about 200 connections from one client.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Final

from siger_gateway.config.schema import EndpointSpec
from siger_gateway.discovery.client import FAILURES, Consul
from siger_gateway.discovery.snapshot import Snapshot
from siger_gateway.telemetry.metrics import Metrics, Samples

MAX_WATCHES: Final = 100
WAIT: Final = 50.0
"""Seconds that Consul may hold a query; below the minute of the resync."""
TURN_WAIT: Final = 1.0
"""Seconds that Consul may hold a query when services take turns."""
HOLD_WAIT: Final = 1.0
"""Seconds between looks at a service whose sudden emptiness is not believed yet."""
RESYNC: Final = 60.0
"""Seconds after which a service is asked without an index."""
EMPTY_GRACE: Final = 30.0
"""Seconds that a service may have no registered instance before its table is emptied."""
RETRY: Final = (0.2, 10.0)
"""Seconds between attempts after failures, first and last; doubled in between, with jitter."""
MIN_INTERVAL: Final = 0.05
"""Seconds between two queries of a service: a bound for one that changes all the time."""

Publish = Callable[[str, tuple[EndpointSpec, ...]], None]
PublishNames = Callable[[tuple[str, ...]], None]

log = logging.getLogger(__name__)


def endpoints_of(entries: list[dict[str, Any]]) -> tuple[EndpointSpec, ...]:
    """The table that an answer of ``/v1/health/service`` means; unusable instances are left out.

    Sorted by address and without duplicates, so that equal answers make equal tables.
    """
    specs: dict[str, EndpointSpec] = {}
    for entry in entries:
        service = entry.get("Service") or {}
        host = service.get("Address") or (entry.get("Node") or {}).get("Address")
        port = service.get("Port")
        if not host or not isinstance(port, int) or not 0 < port < 65536:
            log.warning("instance left out", extra={"fields": {"id": service.get("ID")}})
            continue
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        weight = (service.get("Weights") or {}).get("Passing", 1)
        specs[address] = EndpointSpec(address, min(max(int(weight), 1), 1000))
    return tuple(specs[address] for address in sorted(specs))


def next_index(current: int, answered: str) -> int:
    """The index for the next query, by the rules of Consul's documentation."""
    index = int(answered)
    return 0 if index < current or index < 1 else index


class ConsulWatcher:
    """Watches services and publishes their tables.

    :param publish: called with a service's name in Consul and its whole new table.
    :param publish_names: called with all service names in Consul when they change; None: not
        watched.
    """

    def __init__(
        self,
        address: str,
        token: str,
        *,
        publish: Publish,
        publish_names: PublishNames | None,
        snapshot: Snapshot | None,
        metrics: Metrics,
        empty_grace: float = EMPTY_GRACE,
        resync: float = RESYNC,
    ) -> None:
        self._consul = Consul(address, token)
        self._publish = publish
        self._publish_names = publish_names
        self._snapshot = snapshot
        self._empty_grace = empty_grace
        self._resync = resync
        self._services: frozenset[str] = frozenset()
        self._tables: dict[str, tuple[EndpointSpec, ...]] = {}
        self._answered: dict[str, float] = {}  # service -> monotonic time of the last answer
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._names_task: asyncio.Task[None] | None = None
        self._turns = asyncio.Semaphore(MAX_WATCHES)
        self._started_at: float | None = None
        metrics.gauge(
            "siger_discovery_age_seconds",
            "Seconds since the source last answered.",
            ("source",),
            self._age_samples,
        )

    @property
    def age(self) -> float:
        """Seconds since Consul last answered, for the service where that is longest ago."""
        if self._started_at is None or not self._services:
            return 0.0
        oldest = min(self._answered.get(name, self._started_at) for name in self._services)
        return time.monotonic() - oldest

    def start(self) -> None:
        """Publishes the snapshot, then begins to watch; returns at once."""
        self._started_at = time.monotonic()
        if self._snapshot is not None:
            for name, endpoints in self._snapshot.load().items():
                if name in self._services:
                    self._tables[name] = endpoints
                    self._publish(name, endpoints)
        if self._publish_names is not None:
            self._names_task = asyncio.create_task(self._watch_names(), name="consul names")
        self._watch_services()

    def set_services(self, names: Collection[str]) -> None:
        """Makes ``names`` the services that are watched."""
        self._services = frozenset(names)
        if self._started_at is not None:
            self._watch_services()

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        if self._names_task is not None:
            tasks.append(self._names_task)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()
        self._consul.http.close()
        if self._snapshot is not None:
            await self._snapshot.close()

    def _watch_services(self) -> None:
        for name in self._tasks.keys() - self._services:
            self._tasks.pop(name).cancel()
            self._tables.pop(name, None)
            self._answered.pop(name, None)
        for name in self._services - self._tasks.keys():
            self._tasks[name] = asyncio.create_task(_Watch(self, name).run(), name=f"consul {name}")

    async def query(self, name: str, **options: Any) -> tuple[str, list[dict[str, Any]]]:
        """One query for the instances of a service, when it is this service's turn."""
        async with self._turns:
            index, entries = await self._consul.health.service(name, **options)
        if not isinstance(entries, list):
            raise ValueError("no list of instances")
        return index, entries

    @property
    def wait(self) -> float:
        return WAIT if len(self._services) <= MAX_WATCHES else TURN_WAIT

    def answered(self, name: str) -> None:
        self._answered[name] = time.monotonic()

    def table(self, name: str) -> tuple[EndpointSpec, ...]:
        return self._tables.get(name, ())

    def set_table(self, name: str, endpoints: tuple[EndpointSpec, ...]) -> None:
        """Publishes a table if it is news."""
        before = self._tables.get(name)
        if before == endpoints:
            return
        self._tables[name] = endpoints
        old, new = ({one.address for one in table} for table in (before or (), endpoints))
        log.info(
            "endpoints changed",
            extra={
                "fields": {
                    "service": name,
                    "added": sorted(new - old),
                    "removed": sorted(old - new),
                    "endpoints": len(new),
                }
            },
        )
        self._publish(name, endpoints)
        if self._snapshot is not None:
            self._snapshot.save(self._tables)

    async def _watch_names(self) -> None:
        index = 0

        async def ask() -> None:
            nonlocal index
            answered, services = await self._consul.catalog.services(
                index=index or None, wait=f"{WAIT:g}s"
            )
            index = next_index(index, answered)
            names = tuple(sorted(services))
            if names != known[0] and self._publish_names is not None:
                known[0] = names
                self._publish_names(names)

        known: list[tuple[str, ...]] = [()]
        await keep_asking("service names", ask)

    def _age_samples(self) -> Samples:
        samples = [(("consul",), self.age)]
        if self._snapshot is not None and self._snapshot.saved_at:
            samples.append((("snapshot",), time.time() - self._snapshot.saved_at))
        return samples


class _Watch:
    """The watch of one service."""

    def __init__(self, watcher: ConsulWatcher, name: str) -> None:
        self._watcher = watcher
        self._name = name
        self._index = 0
        self._synced = 0.0
        self._empty_since: float | None = None

    async def run(self) -> None:
        await keep_asking(self._name, self._ask)

    async def _ask(self) -> None:
        watcher, name = self._watcher, self._name
        wait = watcher.wait if self._empty_since is None else HOLD_WAIT
        if time.monotonic() - self._synced > watcher._resync:
            self._index = 0
        if self._index == 0:
            self._synced = time.monotonic()
        answered, entries = await watcher.query(
            name, index=self._index or None, wait=f"{wait:g}s", passing=True
        )
        self._index = next_index(self._index, answered)
        watcher.answered(name)
        endpoints = endpoints_of(entries)
        if endpoints or not watcher.table(name) or await self._is_really_empty():
            self._empty_since = None
            watcher.set_table(name, endpoints)

    async def _is_really_empty(self) -> bool:
        """Whether a service that had instances a moment ago can be believed to have none."""
        _, registered = await self._watcher.query(self._name)
        if registered:
            return True
        now = time.monotonic()
        if self._empty_since is None:
            self._empty_since = now
            log.warning(
                "service vanished from Consul; its last endpoints stay for now",
                extra={"fields": {"service": self._name, "seconds": self._watcher._empty_grace}},
            )
        return now - self._empty_since >= self._watcher._empty_grace


async def keep_asking(what: str, ask: Callable[[], Awaitable[None]]) -> None:
    """Asks for ever: at once after success, with growing pauses after failures."""
    pause = RETRY[0]
    failing = False
    while True:
        try:
            await ask()
        except FAILURES as error:
            if not failing:
                failing = True
                log.warning(
                    "Consul does not answer; the last tables stay",
                    extra={"fields": {"service": what, "error": str(error)}},
                )
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, RETRY[1])
        else:
            if failing:
                log.info("Consul answers again", extra={"fields": {"service": what}})
            pause, failing = RETRY[0], False
            await asyncio.sleep(MIN_INTERVAL)
