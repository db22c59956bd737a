"""The application's log: one JSON object per line, to standard error.

It goes through the standard library's ``logging``, with the fields of ``extra={"fields": {...}}``
beside the message. The access log, in ``access_log``, does not: a line per request has to be cheap.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson


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
