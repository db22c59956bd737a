"""Structured logs: one JSON object per line, for the application and for every exchange.

The application log goes through the standard library's ``logging`` (to standard error), with the
fields of ``extra={"fields": {...}}`` beside the message. The access log does not: a line per
request has to be cheap, so an exchange only appends a record, and ``AccessLog.flush`` (called by a
coarse timer, and when many are waiting) turns them into lines and writes them in one call.
"""

from __future__ import annotations

import json
import logging
import os
import random
import re
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import orjson

from siger_gateway.telemetry.redact import redact_query

FLUSH_AT: Final = 128
"""Waiting lines at which the log is written without waiting for the timer: about 60 KiB, which
takes half a millisecond."""

_C1: Final = re.compile(rb"\xc2[\x80-\x9f]")
"""Control characters that JSON lets stand (RFC 8259 section 7) and clients can send: U+0085 ends a
line for some readers, U+009B begins an escape sequence of terminals."""
C1_BEGINS: Final = 0xC2


def utc_timestamp(unix_seconds: float | None = None) -> str:
    """RFC 3339 in UTC with milliseconds and ``Z``: ``2026-01-31T12:00:00.000Z``."""
    moment = time.time() if unix_seconds is None else unix_seconds
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


class JsonFormatter(logging.Formatter):
    """``{"ts", "level", "logger", "message", …fields, "exception"}``."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": utc_timestamp(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, Mapping):
            line.update(fields)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(line, default=str).decode()
        except TypeError:  # a surrogate (a path that is not UTF-8), an integer above 64 bits
            return json.dumps({str(key): str(value) for key, value in line.items()})


def configure(level: str) -> None:
    """Sends every logger of the process to standard error as JSON. May be called again."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(level.upper())
    # nats-py and asyncio repeat at "info" what our own lines say.
    logging.getLogger("nats").setLevel(logging.ERROR)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


class AccessRecord(msgspec.Struct, gc=False):
    """One exchange, as the access log tells it. ``duration`` in seconds, sizes in body bytes.

    When the line is written, ``time``, in Unix seconds, becomes text, and the secrets are taken out
    of ``query``, which until then is as the client has sent it. ``user`` and ``key_id`` are who it
    has shown to be, and with which API key.
    """

    time: float | str
    request_id: str
    client: str
    method: str
    path: str
    route: str
    service: str
    endpoint: str
    status: int
    duration: float
    bytes_in: int
    bytes_out: int
    reason: str
    detail: str
    user_agent: str
    query: bytes | str
    user: str
    key_id: str


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
                view = view[os.write(self._fd, view) :]
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
        record.time = f"{prefix}.{int((now - second) * 1000):03d}Z"
        record.duration = round(record.duration, 6)
        query = record.query
        if isinstance(query, bytes):
            record.query = redact_query(query).decode("latin-1")
        lines.append(_encode(record))
    lines.append(b"")
    return b"\n".join(lines)
