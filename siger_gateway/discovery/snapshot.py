"""The last good tables on disk, so that a gateway can start while Consul is away.

One JSON file, replaced atomically (written beside, synced, renamed), so that a reader sees the old
or the new one whole. A crash may lose the last rename, and then the older tables are used: they are
only ever a beginning. Saving never stops anything: a burst of changes is one write, ``fsync`` may
take its time in a thread, and a disk that fails is logged once. Whatever stands in the file is
checked before it is believed, and a file that is not ours is left alone until the next save.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import msgspec

from siger_gateway.config.names import parse_host_port
from siger_gateway.config.schema import EndpointSpec
from siger_gateway.discovery.answers import MAX_WEIGHT, usable_names

SNAPSHOT_FILE: Final = "discovery.json"
"""Its name in ``data_dir``."""
SAVE_DELAY: Final = 1.0
"""Seconds between a change and its write, and so at least between two writes."""
MAX_FILE: Final = 64 * 1024 * 1024
"""Bytes: a million endpoints. Anything larger is not our file."""

log = logging.getLogger(__name__)
_serial = itertools.count()


@dataclass(frozen=True, slots=True)
class Tables:
    """What discovery knows.

    ``names``: all services in Consul, if these are watched. ``tags``: of those that have any, what
    they say about routes.
    """

    services: dict[str, tuple[EndpointSpec, ...]]
    names: tuple[str, ...] = ()
    tags: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def catalog(self) -> dict[str, tuple[str, ...]]:
        """Every name with its tags."""
        return {name: self.tags.get(name, ()) for name in self.names}


class _File(msgspec.Struct):
    version: Literal[1]
    saved_at: float  # Unix time
    names: tuple[str, ...]
    services: dict[str, tuple[EndpointSpec, ...]]
    tags: dict[str, tuple[str, ...]] = {}  # earlier versions neither write nor mind it


class NotASnapshot(ValueError):
    """The file holds something else."""


class Snapshot:
    """The file at ``path``; its folder is made when it is first saved.

    :param delay: seconds, see ``SAVE_DELAY``.
    """

    def __init__(self, path: Path, delay: float = SAVE_DELAY) -> None:
        self._path = path
        self._delay = delay
        self._saved_at: float | None = None
        self._waiting: Tables | None = None
        self._task: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._failing = False

    @property
    def age(self) -> float | None:
        """Seconds since the tables in the file were right; None: there is none that we know."""
        return None if self._saved_at is None else max(time.time() - self._saved_at, 0.0)

    def load(self) -> Tables | None:
        """The tables of the file; None when there is none, or it cannot be used."""
        try:
            if not self._path.exists():
                return None
            if not self._path.is_file():  # reading a pipe would wait for ever
                raise NotASnapshot("not a regular file")
            with self._path.open("rb") as file:
                found = decode(file.read(MAX_FILE + 1))
        except (OSError, NotASnapshot) as error:
            fields = {"path": str(self._path), "error": str(error)}
            log.warning("discovery snapshot is not used", extra={"fields": fields})
            return None
        self._saved_at = found.saved_at
        return Tables(found.services, found.names, found.tags)

    def save(self, tables: Tables) -> None:
        """Writes the tables soon; later ones that come before that take their place."""
        self._waiting = tables
        if self._task is None and not self._closing.is_set():
            self._task = asyncio.create_task(self._write_soon(), name="discovery snapshot")

    async def close(self) -> None:
        """Writes what waits, now."""
        self._closing.set()
        if self._task is not None:
            await self._task

    async def _write_soon(self) -> None:
        while self._waiting is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), self._delay)
            tables, self._waiting = self._waiting, None
            saved_at = time.time()
            try:
                await asyncio.to_thread(_replace, self._path, encode(tables, saved_at))
            except OSError as error:
                if not self._failing:
                    fields = {"path": str(self._path), "error": str(error)}
                    log.error("discovery snapshot cannot be saved", extra={"fields": fields})
                self._failing = True
            else:
                self._saved_at = saved_at
                self._failing = False
        self._task = None


def encode(tables: Tables, saved_at: float) -> bytes:
    """The content of the file; ``saved_at`` is Unix time."""
    return msgspec.json.encode(_File(1, saved_at, tables.names, tables.services, tables.tags))


def decode(content: bytes) -> _File:
    """:raises NotASnapshot: if it is anything but what ``encode`` makes."""
    if len(content) > MAX_FILE:
        raise NotASnapshot("too large")
    try:
        found = msgspec.json.decode(content, type=_File)
        for endpoints in found.services.values():
            for endpoint in endpoints:
                parse_host_port(endpoint.address)
                if not 1 <= endpoint.weight <= MAX_WEIGHT:
                    raise NotASnapshot(f"weight {endpoint.weight}")
    except (ValueError, RecursionError) as error:  # msgspec's and BadText are ValueErrors
        raise NotASnapshot(str(error)) from error
    names = {*found.names, *found.services}
    if len(usable_names(names)) < len(names):
        raise NotASnapshot("a service has an impossible name")
    return found


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Gateways on one machine may share the folder.
    beside = path.with_name(f".{path.name}.{os.getpid()}.{next(_serial)}")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise
