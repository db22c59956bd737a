"""The access log: one JSON object per line, for every exchange.

A line per request has to be cheap, so an exchange only appends a record, and ``AccessLog.flush``
(called by a coarse timer, and when many are waiting) turns them into lines and writes them in one
call.
"""

from __future__ import annotations

import logging
import os
import random
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import msgspec

from siger_gateway.telemetry.access_record import AccessRecord
from siger_gateway.telemetry.redact import redact_query

FLUSH_AT: Final = 128
"""Waiting lines at which the log is written without waiting for the timer: about 60 KiB, which
takes half a millisecond."""

_C1: Final = re.compile(rb"\xc2[\x80-\x9f]")
"""Control characters that JSON lets stand (RFC 8259 section 7) and clients can send: U+0085 ends a
line for some readers, U+009B begins an escape sequence of terminals."""
C1_BEGINS: Final = 0xC2

_MILLISECONDS: Final = tuple(f".{number:03d}Z" for number in range(1000))
"""The end of a time: to format a number costs as much as to encode half of the record."""

_encode: Final = msgspec.json.Encoder().encode


class AccessLog:
    """Collects records and writes them in batches to a file descriptor.

    :param path: a file to append to, or ``-`` for standard output.
    :param sample: share (0 to 1) of the exchanges below status 500 that are logged.
    """

    def __init__(self, path: str, sample: float) -> None:
        self._path = path
        self._fd = self._open()
        self._sample = sample
        self._waiting: list[AccessRecord] = []

    def _open(self) -> int:
        if self._path == "-":
            return os.dup(1)
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def append(self, record: AccessRecord) -> None:
        if self._sample < 1.0 and record.status < 500 and random.random() >= self._sample:
            return
        self._waiting.append(record)
        if len(self._waiting) >= FLUSH_AT:
            self.flush()

    def flush(self) -> None:
        """Writes what is waiting. A log that cannot be written never stops the traffic."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        lines = _lines(waiting)
        view = memoryview(_C1.sub(_escaped, lines) if C1_BEGINS in lines else lines)
        try:
            while view:
                written = os.write(self._fd, view)  # not in the slice: mypyc would write twice
                view = view[written:]
        except OSError as error:
            logging.getLogger(__name__).error(
                "access log lost lines", extra={"fields": {"error": str(error)}}
            )

    def reopen(self) -> None:
        """After log rotation: SIGHUP makes the next lines go to a new file at the same path.

        Where there can be no new file, the old one goes on: a descriptor that was closed first
        could be a client's connection by the next line.
        """
        self.flush()
        old = self._fd
        try:
            self._fd = self._open()
        except OSError as error:
            logging.getLogger(__name__).error(
                "access log not reopened", extra={"fields": {"error": str(error)}}
            )
        else:
            os.close(old)

    def close(self) -> None:
        self.flush()
        os.close(self._fd)


def _escaped(control: re.Match[bytes]) -> bytes:
    return b"\\u00%02x" % control[0][1]


def _lines(records: Iterable[AccessRecord]) -> bytes:
    """A line for each. Most of them fall into the second of the one before, whose text is kept."""
    second, prefix = 0, ""
    lines = []
    for record in records:
        now = float(record.time)
        if int(now) != second or not prefix:
            second = int(now)
            prefix = datetime.fromtimestamp(second, UTC).isoformat()[:-6]
        record.time = prefix + _MILLISECONDS[int((now - second) * 1000)]
        record.duration = int(record.duration * 1e6 + 0.5) / 1e6  # round() takes twice as long
        query = record.query
        if isinstance(query, bytes):
            record.query = redact_query(query).decode("latin-1")
        lines.append(_encode(record))
    lines.append(b"")
    return b"\n".join(lines)
