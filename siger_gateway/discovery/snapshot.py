"""The last good tables on disk, so that a gateway can start while Consul is away.

Written a moment after a change (a burst of changes is one write), atomically, and in a thread,
because ``fsync`` may take long. A snapshot that cannot be written or read is a line in the log and
nothing more: it never stops the traffic.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import orjson

from siger_gateway.config.schema import EndpointSpec

FORMAT: Final = 1
"""Version of the file's layout."""
DELAY: Final = 1.0
"""Seconds between a change and its write."""

Tables = Mapping[str, tuple[EndpointSpec, ...]]

log = logging.getLogger(__name__)


class Snapshot:
    """The file at ``path``; its folder is made when it is first written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tables: dict[str, tuple[EndpointSpec, ...]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Future[None] | None = None
        self._failed = False
        self.saved_at = 0.0
        """Unix time of the tables on disk; 0.0: there are none."""

    def load(self) -> Tables:
        """The tables on disk; empty when there is no usable file."""
        try:
            document = orjson.loads(self._path.read_bytes())
            if document["format"] != FORMAT:
                raise ValueError(f"format {document['format']!r}")
            tables = {
                str(name): tuple(EndpointSpec(_address(one[0]), int(one[1])) for one in endpoints)
                for name, endpoints in document["services"].items()
            }
            self.saved_at = float(document["saved_at"])
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            log.warning(
                "snapshot ignored",
                extra={"fields": {"path": str(self._path), "error": repr(error)}},
            )
            return {}
        return tables

    def save(self, tables: Tables) -> None:
        """Writes ``tables`` soon."""
        self._tables = dict(tables)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DELAY, self._start_writing)

    def _start_writing(self) -> None:
        self._timer = None
        if self._writing is not None and not self._writing.done():
            self._timer = asyncio.get_running_loop().call_later(DELAY, self._start_writing)
            return
        self._writing = asyncio.get_running_loop().run_in_executor(None, self._write, self._tables)

    def _write(self, tables: Tables) -> None:
        now = time.time()
        document = {
            "format": FORMAT,
            "saved_at": now,
            "services": {
                name: [[one.address, one.weight] for one in endpoints]
                for name, endpoints in tables.items()
            },
        }
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=self._path.name)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(orjson.dumps(document, option=orjson.OPT_INDENT_2))
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(name, self._path)
            except OSError:
                os.unlink(name)
                raise
        except OSError as error:
            if not self._failed:  # said once, not at every change
                self._failed = True
                log.warning(
                    "snapshot not written",
                    extra={"fields": {"path": str(self._path), "error": str(error)}},
                )
        else:
            self._failed = False
            self.saved_at = now

    async def close(self) -> None:
        """Writes what is still to be written."""
        waiting = self._timer is not None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._writing is not None:
            await self._writing
        if waiting:
            await asyncio.get_running_loop().run_in_executor(None, self._write, self._tables)


def _address(value: object) -> str:
    """``host:port`` with a port that exists; raises ``ValueError``."""
    host, _, port = str(value).rpartition(":")
    if not host or not 0 < int(port) < 65536:
        raise ValueError(f"address {value!r}")
    return str(value)
