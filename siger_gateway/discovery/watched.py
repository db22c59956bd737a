"""The table of one service, and when an answer may change it.

order      answers are taken one after the other; one with a lower index than the last is asked
           for again, because it is either late or from a Consul with a new history
emptiness  a table does not become empty because of one answer. A second query, decided by a
           majority of the servers, counts all instances: some, of which none passes, is the
           truth, and none at all has to stay so for a while (``answers.may_empty``)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection

from siger_gateway.config.schema import EndpointSpec
from siger_gateway.discovery.answers import (
    Entry,
    Instances,
    may_empty,
    parse_instances,
)
from siger_gateway.discovery.consul_client import ConsulClient

log = logging.getLogger(__name__)

Table = tuple[EndpointSpec, ...]


class WatchedService:
    """One service in Consul.

    :param endpoints: the table to begin with, from the snapshot; None: there is none.
    :param own: ids of instances that are left out; may grow.
    :param grace: seconds for which a table is kept when nothing is registered any more.
    :param on_change: called with this service after each change of its table.
    """

    def __init__(
        self,
        name: str,
        client: ConsulClient,
        endpoints: Table | None,
        own: Collection[str],
        grace: float,
        on_change: Callable[[WatchedService], None],
    ) -> None:
        self.name = name
        self.endpoints = endpoints
        self.failures = 0
        """Queries that failed in a row; the watcher counts."""
        self.answered = 0.0
        """Loop time of the last answer; the watcher sets it to when it began to ask."""
        self._client = client
        self._own = own
        self._grace = grace
        self._on_change = on_change
        self._index = 0
        self._empty_since: float | None = None  # loop time
        self._skipped: tuple[tuple[str, str], ...] = ()
        self._turn = asyncio.Lock()

    def __repr__(self) -> str:
        known = "unknown" if self.endpoints is None else f"endpoints={len(self.endpoints)}"
        held = " held" if self._empty_since is not None else ""
        return f"<WatchedService {self.name} {known}{held}>"

    def hold_left(self, now: float) -> float | None:
        """Seconds until a table that Consul says is empty will be believed to be; None: no such."""
        if self._empty_since is None:
            return None
        return max(self._empty_since + self._grace - now, 0.0)

    async def refresh(self, index: int = 0, wait: float = 0.0) -> int:
        """Asks Consul and takes the answer; returns its index.

        :param index: see ``ConsulClient.passing``; 0: at once.
        :raises ConsulException, OSError: there was no answer; nothing changed.
        """
        answered, entries = await self._client.passing(self.name, index, wait)
        async with self._turn:
            if answered < self._index:
                answered, entries = await self._client.passing(self.name, 0, 0.0)
            instances = self._parse(entries)
            held = False
            if self.endpoints and not instances.endpoints:
                answered, instances, held = await self._doubt()
            self._index = answered
            self.answered = asyncio.get_running_loop().time()
            if not held:
                self._empty_since = None
                self._take(instances)
        return answered

    async def _doubt(self) -> tuple[int, Instances, bool]:
        """The second look; True: the table is to be kept for now."""
        answered, entries = await self._client.registered(self.name)
        others = [entry for entry in entries if entry.service.id not in self._own]
        instances = self._parse([entry for entry in others if entry.passing])
        now = asyncio.get_running_loop().time()
        since = now if self._empty_since is None else self._empty_since
        if instances.endpoints or may_empty(len(others), now - since, self._grace):
            return answered, instances, False
        if self._empty_since is None:
            fields = {"service": self.name, "grace": self._grace}
            log.warning("no instance is registered; keeping the table", extra={"fields": fields})
        self._empty_since = since
        return answered, instances, True

    def _parse(self, entries: list[Entry]) -> Instances:
        instances = parse_instances(entries, self._own)
        if instances.skipped != self._skipped:
            self._skipped = instances.skipped
            for service_id, why in instances.skipped:
                fields = {"service": self.name, "id": service_id, "why": why}
                log.warning("instance cannot be used", extra={"fields": fields})
        return instances

    def _take(self, instances: Instances) -> None:
        before, self.endpoints = self.endpoints, instances.endpoints
        if before == self.endpoints:
            return
        old = {one.address: one.weight for one in before or ()}
        new = {one.address: one.weight for one in self.endpoints}
        fields = {
            "service": self.name,
            "added": sorted(new.keys() - old.keys()),
            "removed": sorted(old.keys() - new.keys()),
            "reweighted": sorted(one for one in new.keys() & old.keys() if new[one] != old[one]),
            "endpoints": len(new),
        }
        log.info("endpoints changed", extra={"fields": fields})
        self._on_change(self)
