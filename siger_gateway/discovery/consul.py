"""Keeps the endpoint tables of the watched services as Consul has them.

How changes are noticed, for up to ``MAX_BLOCKING`` services: one blocking query each, answered when
something about that service changes. An agent takes about 200 connections from one client, so
beyond that there are two blocking queries for all services together: the state of all checks,
compared service by service, and the list of names. The services that they show to have changed are
*marked*, and ``FETCHERS`` tasks ask for the marked ones. What no check tells (an instance without
checks, a new port) moves the index of the list, which brings the next resync forward.

Every ``resync_interval`` all services are marked, changed or not: a missed event never lasts.

Fail-static: an error, whatever it is, changes no table (``watched`` says what else does not). The
next attempt comes after a backoff. It does not block, and neither does a query after the agent has
closed a connection: the index that we know may come from a history that Consul has lost, in which
case it could be waited for in vain.

Tables that a snapshot on disk knows are published first, before Consul is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Final

from siger_gateway.config.schema import EndpointSpec
from siger_gateway.discovery.answers import (
    CheckStates,
    catalog_of,
    changed_services,
    next_index,
)
from siger_gateway.discovery.backoff import backoff
from siger_gateway.discovery.consul_client import ConsulClient
from siger_gateway.discovery.outage import Outage
from siger_gateway.discovery.snapshot import Snapshot, Tables
from siger_gateway.discovery.watched import WatchedService
from siger_gateway.telemetry.metrics import Metrics, Samples

MAX_BLOCKING: Final = 32
"""Services with a blocking query each: a sixth of what an agent takes from one client, so that
several gateways may share an agent behind one address."""
FETCHERS: Final = 8
"""Queries at a time for marked services."""
WAIT: Final = 60.0
"""Seconds for which a blocking query blocks; NAT and load balancers forget longer ones."""
RESYNC_INTERVAL: Final = 60.0
EMPTY_GRACE: Final = 30.0
"""Seconds: an agent brings its services back to a Consul that lost them within a sync or two."""
PACE: Final = 0.1
"""Seconds at least between two blocking queries about one service."""
PACE_ALL: Final = 1.0
"""The same for those about all: their answers are long, and change often in a large cluster."""
RESYNC_SPREAD: Final = 10.0
"""Seconds over which the queries of one resync are spread: 1,000 at once would be felt."""

ALL_CHECKS: Final = "/health/state/any"
ALL_NAMES: Final = "/catalog/services"
"""The two queries about all services, by their paths: no service can have such a name."""

log = logging.getLogger(__name__)

Read = Callable[[int], Awaitable[int]]
"""A blocking query, from the index known to the one answered; it takes the answer itself."""
Publish = Callable[[str, tuple[EndpointSpec, ...]], None]
PublishCatalog = Callable[[dict[str, tuple[str, ...]]], None]


class ConsulWatcher:
    """Publishes the endpoints of services in Consul, and the catalog of all of them if asked to.

    :param address: ``host:port`` of the agent.
    :param token: for its ACL; may be empty.
    :param publish: takes the whole table of one service, sorted; called only when it changed.
    :param publish_catalog: takes the sorted names of all services in Consul, each with its tags
        about routes; None: they are not watched. It may call ``set_services``. A name leaves when
        Consul does not list it any more and its table, if it is watched, is empty: so an emptied
        Consul takes nothing away at once.
    :param snapshot: tables to begin with, and where they are saved; the watcher closes it.
    :param services: see ``set_services``.
    :param max_blocking: services up to which each has a blocking query.
    :param wait: seconds for which a blocking query blocks.
    :param resync_interval: seconds after which every service is asked for again.
    :param empty_grace: seconds for which a table stays when nothing is registered any more.
    """

    def __init__(
        self,
        address: str,
        token: str,
        *,
        publish: Publish,
        metrics: Metrics,
        publish_catalog: PublishCatalog | None = None,
        snapshot: Snapshot | None = None,
        services: Collection[str] = (),
        max_blocking: int = MAX_BLOCKING,
        wait: float = WAIT,
        resync_interval: float = RESYNC_INTERVAL,
        empty_grace: float = EMPTY_GRACE,
    ) -> None:
        self._client = ConsulClient(address, token)
        self._publish = publish
        self._publish_catalog = publish_catalog
        self._snapshot = snapshot
        self._max_blocking = max_blocking
        self._wait = wait
        self._resync_interval = resync_interval
        self._empty_grace = empty_grace
        self._own: set[str] = set()
        self._services: dict[str, WatchedService] = {}
        self._catalog: dict[str, tuple[str, ...]] = {}  # as Consul has it
        self._unusable: frozenset[str] = frozenset()
        self._published: dict[str, tuple[str, ...]] = {}
        self._checks: CheckStates = {}
        self._marked: set[str] = set()
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._resync_early = asyncio.Event()
        self._outage = Outage()
        self._loop: asyncio.AbstractEventLoop | None = None  # between start and close
        self._watches: dict[str, asyncio.Task[None]] = {}
        self._workers: list[asyncio.Task[None]] = []
        self._ending: set[asyncio.Task[None]] = set()
        self._saved = snapshot.load() if snapshot is not None else None
        self.set_services(services)
        metrics.gauge(
            "siger_discovery_age_seconds",
            "Since the endpoints, those of the service asked longest ago, were confirmed.",
            ("source",),
            self._age_samples,
        )

    def __repr__(self) -> str:
        state = "failing" if self._outage.subjects else "ok"
        return f"<ConsulWatcher services={len(self._services)} {state}>"

    @property
    def age(self) -> float:
        """Seconds since Consul's last answer about the service for which that is longest ago, or
        since that service was first asked for; 0 while nothing is watched."""
        if self._loop is None or not self._services:
            return 0.0
        return self._loop.time() - min(one.answered for one in self._services.values())

    def exclude(self, service_id: str) -> None:
        """Instances with this id are never published: the gateway's own."""
        self._own.add(service_id)

    def set_services(self, names: Collection[str]) -> None:
        """Makes ``names`` the watched services; may be called at any time."""
        for name in self._services.keys() - set(names):
            del self._services[name]
            self._outage.end(name)
            self._stop_timer(name)
        added = sorted(set(names) - self._services.keys())
        for name in added:
            saved = self._saved.services.pop(name, None) if self._saved is not None else None
            self._services[name] = WatchedService(
                name, self._client, saved, self._own, self._empty_grace, self._on_change
            )
        if self._loop is not None:
            self._begin(added)

    def watch_catalog(self, publish: PublishCatalog) -> None:
        """Publishes the catalog too from now on, see ``publish_catalog``."""
        self._publish_catalog = publish
        if self._loop is not None:
            self._arrange_watches()
            self._update_catalog()  # it may be known already

    def start(self) -> None:
        """Publishes what the snapshot has and begins to watch; returns at once."""
        if self._loop is not None:
            return
        self._loop = asyncio.get_running_loop()
        self._workers = [
            *(asyncio.create_task(self._fetch_marked()) for _ in range(FETCHERS)),
            asyncio.create_task(self._resync(), name="consul resync"),
        ]
        self._begin([*self._services])
        if self._saved is not None:
            self._catalog = self._saved.catalog
            self._update_catalog()

    async def close(self) -> None:
        """Ends every task and connection, and saves the snapshot. Publishes nothing more."""
        self._loop = None
        for name in [*self._timers]:
            self._stop_timer(name)
        ending = [*self._ending, *self._watches.values(), *self._workers]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        await self._client.close()
        if self._snapshot is not None:
            await self._snapshot.close()

    # What runs.

    def _begin(self, added: Collection[str]) -> None:
        assert self._loop is not None
        for name in added:
            service = self._services[name]
            service.answered = self._loop.time()
            if service.endpoints is not None:
                self._call(self._publish, name, service.endpoints)
        self._arrange_watches()
        if ALL_CHECKS in self._watches:
            for name in added:
                self._mark(name)

    def _arrange_watches(self) -> None:
        """One watch per service while they are few, and those of all services otherwise."""
        wanted: dict[str, tuple[Read, float]] = {}
        few = len(self._services) <= self._max_blocking
        if few:
            for name, service in self._services.items():
                wanted[name] = partial(self._refresh, service), PACE
        else:
            wanted[ALL_CHECKS] = self._read_checks, PACE_ALL
        if not few or self._publish_catalog is not None:
            wanted[ALL_NAMES] = self._read_names, PACE_ALL
        for subject in self._watches.keys() - wanted.keys():
            task = self._watches.pop(subject)
            task.cancel()
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)
            self._outage.end(subject)
        for subject, (read, pace) in wanted.items():
            if subject not in self._watches:
                self._watches[subject] = asyncio.create_task(
                    self._watch(subject, read, pace), name=f"consul {subject}"
                )

    async def _watch(self, subject: str, read: Read, pace: float) -> None:
        """One blocking query after the other, at least ``pace`` seconds apart."""
        loop = asyncio.get_running_loop()
        index = failures = losses = 0
        while True:
            began = loop.time()
            if losses != self._client.losses:
                index, losses = 0, self._client.losses
            try:
                answered = await read(index)
            except Exception as error:  # noqa: BLE001 - this task must outlive whatever it is
                self._outage.begin(subject, error)
                index, failures = 0, failures + 1
                await asyncio.sleep(backoff(failures))
            else:
                self._outage.end(subject)
                index, failures = next_index(index, answered), 0
                await asyncio.sleep(began + pace - loop.time())

    async def _fetch_marked(self) -> None:
        while True:
            name = await self._queue.get()
            self._marked.discard(name)  # before asking: what changes from now on counts again
            service = self._services.get(name)
            if service is None:
                continue
            try:
                await self._refresh(service)
            except Exception as error:  # noqa: BLE001 - as above
                self._outage.begin(name, error)
                service.failures += 1
                self._mark_later(name, backoff(service.failures))
            else:
                self._outage.end(name)

    async def _resync(self) -> None:
        spread = min(RESYNC_SPREAD, self._resync_interval / 2)
        while True:
            with contextlib.suppress(TimeoutError):
                pause = self._resync_interval * random.uniform(0.9, 1.1) - spread
                await asyncio.wait_for(self._resync_early.wait(), pause)
            self._resync_early.clear()
            if not self._outage.subjects:
                self._save()  # not for its tables but for its date
            names = [*self._services]
            for name in names:
                self._mark(name)
                await asyncio.sleep(spread / len(names))
            if not names:
                await asyncio.sleep(spread)

    def _mark(self, name: str) -> None:
        """Somebody will ask for this service soon."""
        if name not in self._marked:
            self._marked.add(name)
            self._queue.put_nowait(name)

    def _mark_later(self, name: str, delay: float) -> None:
        self._stop_timer(name)
        if self._loop is not None and name in self._services:
            self._timers[name] = self._loop.call_later(delay, self._mark, name)

    def _stop_timer(self, name: str) -> None:
        if (timer := self._timers.pop(name, None)) is not None:
            timer.cancel()

    # What Consul says.

    async def _refresh(self, service: WatchedService, index: int = 0) -> int:
        answered = await service.refresh(index, self._wait)
        service.failures = 0
        left = service.hold_left(asyncio.get_running_loop().time())
        if left is not None:
            self._mark_later(service.name, left)
        return answered

    async def _read_checks(self, index: int) -> int:
        answered, checks = await self._client.checks(index, self._wait)
        changed = changed_services(self._checks, checks)
        self._checks = checks
        # A node's checks count for all of its instances, and at the beginning nothing is known.
        for name in self._services if index == 0 or "" in changed else changed:
            if name in self._services:
                self._mark(name)
        return answered

    async def _read_names(self, index: int) -> int:
        answered, found = await self._client.services(index, self._wait)
        catalog = catalog_of(found)
        unusable = frozenset(found.keys() - catalog.keys())
        if unusable != self._unusable:
            self._unusable = unusable
            fields = {"names": sorted(unusable)}
            log.warning("services with impossible names are ignored", extra={"fields": fields})
        before, self._catalog = self._catalog, catalog
        changed = catalog.keys() ^ before.keys()
        for name in changed & self._services.keys():
            self._mark(name)
        if catalog != before:
            self._update_catalog()
        if not changed and 0 < index < answered:
            # Something was registered, and the names do not tell what.
            self._resync_early.set()
        return answered

    def _update_catalog(self) -> None:
        if self._publish_catalog is None:
            return
        before = self._published
        held = {name: tags for name, tags in before.items() if self._has_endpoints(name)}
        catalog = dict(sorted({**held, **self._catalog}.items()))
        if catalog == before:
            return
        self._published = catalog
        fields = {
            "added": sorted(catalog.keys() - before.keys()),
            "removed": sorted(before.keys() - catalog.keys()),
            "retagged": sorted(
                name for name in catalog if name in before and catalog[name] != before[name]
            ),
        }
        log.info("services changed", extra={"fields": fields})
        self._call(self._publish_catalog, catalog)
        self._save()

    def _has_endpoints(self, name: str) -> bool:
        service = self._services.get(name)
        return service is not None and bool(service.endpoints)

    def _on_change(self, service: WatchedService) -> None:
        if self._services.get(service.name) is not service or self._loop is None:
            return  # nobody wants to know any more
        self._call(self._publish, service.name, service.endpoints)
        if not service.endpoints:
            self._update_catalog()
        self._save()

    def _call(self, callback: Callable[..., None], *values: object) -> None:
        try:
            callback(*values)
        except Exception:
            log.exception("discovery was published and not taken")

    def _save(self) -> None:
        if self._snapshot is not None:
            known = self._services.values()
            tables = {one.name: one.endpoints for one in known if one.endpoints is not None}
            tags = {name: tags for name, tags in self._published.items() if tags}
            self._snapshot.save(Tables(tables, tuple(self._published), tags))

    def _age_samples(self) -> Samples:
        yield ("consul",), self.age
        if self._snapshot is not None and self._snapshot.age is not None:
            yield ("snapshot",), self._snapshot.age
