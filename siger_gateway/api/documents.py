"""Jobs and their events as clients see them: JSON documents, and frames of an event stream."""

from __future__ import annotations

from typing import Any, Final

import orjson

from siger_gateway.jobs import moments
from siger_gateway.jobs.status import MESSAGES, Event, JobState

MAX_FRAMES: Final = 64
"""Events that are kept as they were sent, for the next one who is sent them."""
FRAME_BYTES: Final = 16 * 1024
"""Bytes of such a frame at most: results may be long."""


def job_document(job: JobState) -> dict[str, Any]:
    """A job as clients see it, without ``result`` and ``error``; what is not known is left out."""
    timestamp = moments.write(job.timestamp)
    is_new = job.submitted_at == job.timestamp
    document: dict[str, Any] = {
        "job_id": job.job_id,
        "status": job.status,
        "timestamp": timestamp,
        "message": job.message or MESSAGES[job.status],
        "type": job.type,
        **({"user_id": job.user_id} if job.user_id else {}),
        "name": job.name,
        "priority": job.priority,
        "tags": list(job.tags),
        "submitted_at": timestamp if is_new else moments.write(job.submitted_at),
    }
    _add(document, job)
    return document


def _frame(job_id: str, event: Event) -> bytes:
    """One event on the wire (HTML standard, section 9.2.6); JSON holds no line breaks."""
    document: dict[str, Any] = {
        "job_id": job_id,
        "status": event.status,
        "timestamp": moments.write(event.timestamp),
        "message": event.message or MESSAGES[event.status],
    }
    _add(document, event)
    if event.details:
        document.update(orjson.loads(event.details))
    return b"id: %d\ndata: %s\n\n" % (event.seq, orjson.dumps(document))


class Frames:
    """The last events as frames: those who follow a job are all told the same."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Event, bytes]] = {}

    def of(self, job_id: str, event: Event) -> bytes:
        known = self._known.get(id(event))  # which is not another one's as long as it is held
        if known is not None:
            return known[1]
        if len(self._known) >= MAX_FRAMES:
            self._known.clear()
        frame = _frame(job_id, event)
        if len(frame) <= FRAME_BYTES:
            self._known[id(event)] = (event, frame)
        return frame


FRAMES: Final = Frames()


def _add(document: dict[str, Any], source: JobState | Event) -> None:
    """The fields that jobs and events may have or not have."""
    if source.progress is not None:
        document["progress"] = source.progress
    if source.worker:
        document["worker"] = source.worker
    if source.started_at is not None:
        document["started_at"] = moments.write(source.started_at)
    if source.ended_at is not None:
        document["ended_at"] = moments.write(source.ended_at)
