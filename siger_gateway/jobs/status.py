"""The life of a job: its states, the events that move it, and which moves are legal. Pure.

    queued ──> processing ──> completed | failed
       │           │
       └──> cancelling ──> cancelled          (or completed | failed: the worker was faster)

The state of a job is the last legal event of the stream, read in the stream's order; so every
gateway that reads the same stream says the same. Three kinds of messages are events: the submit
message (``queued``), a cancel message (``cancelling``) and the status messages of workers.

``completed`` and ``failed`` are also taken from ``queued``: a scheduler that finds no provider
fails a job that never ran, and a lost ``processing`` must not leave a job queued for ever.
``cancelled`` is only taken after a cancel request, and nothing leaves a terminal state.

Status messages come from our own workers and from DanteGPU daemons, whose words are translated
here (``DAEMON_WORDS``, progress from 0 to 1, ``exit_code`` and ``execution_log``). They are read
leniently: a field that makes no sense is dropped, a message without a known status is no event.
"""

from __future__ import annotations

import math
import sys
from typing import Any, Final

import msgspec
import orjson

from siger_gateway.jobs import moments

QUEUED: Final = "queued"
PROCESSING: Final = "processing"
CANCELLING: Final = "cancelling"
COMPLETED: Final = "completed"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"

STATUSES: Final = (QUEUED, PROCESSING, CANCELLING, COMPLETED, FAILED, CANCELLED)
TERMINAL: Final = frozenset({COMPLETED, FAILED, CANCELLED})

LEGAL: Final[dict[str, frozenset[str]]] = {
    QUEUED: frozenset({PROCESSING, CANCELLING, COMPLETED, FAILED}),
    PROCESSING: frozenset({PROCESSING, CANCELLING, COMPLETED, FAILED}),
    CANCELLING: frozenset({CANCELLED, COMPLETED, FAILED}),
    COMPLETED: frozenset(),
    FAILED: frozenset(),
    CANCELLED: frozenset(),
}
"""From a state to those that may follow; ``processing`` after itself is progress."""

DAEMON_WORDS: Final = {"preparing": PROCESSING, "in_progress": PROCESSING, "timeout": FAILED}

MESSAGES: Final = {
    QUEUED: "Job submitted successfully",
    PROCESSING: "Job is being processed",
    CANCELLING: "Job cancellation requested",
    COMPLETED: "Job completed",
    FAILED: "Job failed",
    CANCELLED: "Job cancelled",
}
"""What is said when an event brings no message of its own."""

MAX_TEXT: Final = 1024
"""Characters of a message or a worker's name that are kept."""

MAX_USER: Final = 256
"""Characters of a user's name: as many as a token may hold (``filters.claims.NAME_LENGTH``)."""

KNOWN_TAGS: Final = 4096
"""Different lists of tags that are remembered at a time, to hold equal ones once."""
KNOWN_TAGS_LENGTH: Final = 8
"""Tags in such a list; longer ones are not likely to come again."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event of a job.

    :param seq: sequence in the stream, from 1.
    :param timestamp: seconds since 1970; also ``started_at`` and ``ended_at``.
    :param progress: 0 to 100.
    :param details: JSON object with ``result`` and ``error``, those that there are; or empty.
    """

    seq: int
    status: str
    timestamp: float
    message: str = ""
    progress: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    worker: str = ""
    details: bytes = b""


class JobState(msgspec.Struct, gc=False):
    """What is known of one job: the fields of its submit message and of its last legal event.

    ``submitted_at`` is what the job document says, ``stored_at`` when the stream stored it, both
    in seconds since 1970. ``seq`` is the submit message's sequence, ``event_seq`` the last legal
    event's. ``details_seq`` names the event whose details were too long to keep (0: none was).
    ``user_id`` is whose job it is; empty: nobody's. ``dropped``: the ledger has forgotten it.

    There may be a million of these, and the garbage collector need not look at any: they refer to
    texts and numbers only (``gc=False``).

    :param submitted_at: below 0: it is not told, and ``stored_at`` has to do.
    """

    job_id: str
    seq: int
    stored_at: float
    type: str = ""
    user_id: str = ""
    name: str = ""
    tags: tuple[str, ...] = ()
    priority: int = 0
    submitted_at: float = -1.0
    event_seq: int = 0
    timestamp: float = 0.0
    status: str = QUEUED
    message: str = ""
    progress: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    worker: str = ""
    details: bytes = b""
    details_seq: int = 0
    dropped: bool = False

    def __post_init__(self) -> None:
        self.event_seq = self.seq
        if self.submitted_at < 0:
            self.submitted_at = self.stored_at
        self.timestamp = self.submitted_at

    def __repr__(self) -> str:
        return f"<JobState {self.job_id} {self.status} seq={self.seq} event={self.event_seq}>"

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL

    def apply(self, event: Event, keep_details: int) -> bool:
        """Takes an event, if it is legal; says whether it was.

        :param keep_details: bytes of details that may be kept here.
        """
        if event.status not in LEGAL[self.status]:
            return False
        self.status = event.status
        self.event_seq = event.seq
        self.timestamp = event.timestamp
        self.message = event.message
        if event.progress is not None:
            self.progress = event.progress
        if event.worker:
            self.worker = event.worker
        if event.started_at is not None:
            self.started_at = event.started_at
        elif self.started_at is None and event.status == PROCESSING:
            self.started_at = event.timestamp
        if event.status in TERMINAL:
            self.ended_at = event.timestamp if event.ended_at is None else event.ended_at
        if event.details:
            is_short = len(event.details) <= keep_details
            # A copy: orjson's bytes keep the 4 KiB buffer that they were written into.
            self.details = bytes(memoryview(event.details)) if is_short else b""
            self.details_seq = 0 if is_short else event.seq
        return True


_known_tags: Final[dict[tuple[str, ...], tuple[str, ...]]] = {}


class _Document(msgspec.Struct, gc=False):
    """What is read of a job document; the rest is skipped, not decoded."""

    type: str = ""
    name: str = ""
    user_id: str = ""
    tags: list[str] = []
    priority: int = 0
    submitted_at: str = ""
    timestamp: str = ""


_read_document: Final = msgspec.json.Decoder(_Document).decode


def submitted(job_id: str, data: bytes, seq: int, stored_at: float) -> JobState:
    """The state that a submit message begins; other publishers' documents may lack fields."""
    try:
        document = _read_document(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        document = _leniently(_object(data))
    moment = moments.read(document.submitted_at or document.timestamp)
    priority = document.priority
    return JobState(
        job_id,
        seq,
        stored_at,
        type=_shared(document.type),
        user_id=_user(document.user_id),
        name=_text(document.name),
        tags=_tags(document.tags),
        priority=priority if 0 <= priority <= 100 else 0,
        submitted_at=-1.0 if moment is None else moment,
    )


def _leniently(document: dict[str, Any]) -> _Document:
    """Of a document with fields of other types than ours, those that make sense."""
    tags, priority = document.get("tags"), document.get("priority")
    texts = [document.get(name) for name in ("submitted_at", "timestamp")]
    return _Document(
        _text(document.get("type")),
        _text(document.get("name")),
        user if isinstance(user := document.get("user_id"), str) else "",
        [_text(tag) for tag in tags] if isinstance(tags, list) else [],
        priority if type(priority) is int else 0,
        *(text if isinstance(text, str) else "" for text in texts),
    )


def cancel_requested(data: bytes, seq: int, stored_at: float) -> Event:
    """The event of a cancel message."""
    moment = moments.read(_object(data).get("timestamp"))
    return Event(seq, CANCELLING, stored_at if moment is None else moment)


def reported(data: bytes, seq: int, stored_at: float) -> Event | None:
    """The event of a status message; None when it names no status that we know."""
    document = _object(data)
    word = document.get("status")
    status = DAEMON_WORDS.get(word, word) if isinstance(word, str) else None
    if status not in LEGAL:
        return None
    moment = moments.read(document.get("timestamp"))
    return Event(
        seq,
        status,
        stored_at if moment is None else moment,
        message=_text(document.get("message")),
        progress=_progress(document),
        started_at=moments.read(document.get("started_at")),
        ended_at=moments.read(document.get("ended_at")),
        worker=_shared(document.get("worker") or document.get("provider_id")),
        details=_details(document, word, status),
    )


def _object(data: bytes) -> dict[str, Any]:
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}


def _text(value: Any) -> str:
    return value[:MAX_TEXT] if isinstance(value, str) else ""


def _shared(value: Any) -> str:
    """A text that many jobs have in common, held once."""
    return sys.intern(_text(value))


def _tags(value: list[str]) -> tuple[str, ...]:
    """Those of a job; many jobs have the same ones, which are then held once."""
    tags = tuple(value)
    known = _known_tags.get(tags)
    if known is None:
        known = tuple([_shared(tag) for tag in tags])
        if len(tags) <= KNOWN_TAGS_LENGTH and known == tags:
            if len(_known_tags) >= KNOWN_TAGS:
                _known_tags.clear()
            _known_tags[known] = known
    return known


def _user(value: Any) -> str:
    """A user's name, held once. What cannot be one is none: cut to size it could be another's."""
    return sys.intern(value) if isinstance(value, str) and len(value) <= MAX_USER else ""


def _progress(document: dict[str, Any]) -> float | None:
    """0 to 100; daemons, which name their provider, count from 0 to 1."""
    value = document.get("progress")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    if "provider_id" in document and 0 <= value <= 1:
        value *= 100
    return min(100.0, max(0.0, value))


def _details(document: dict[str, Any], word: Any, status: str) -> bytes:
    """``result`` and ``error`` as JSON; a daemon's exit code and log are its result."""
    result, error = document.get("result"), document.get("error")
    if result is None:
        outcome = {
            name: document[name] for name in ("exit_code", "execution_log") if name in document
        }
        result = outcome or None
    if error is None and status == FAILED and word == "timeout":
        error = "timeout"
    if error is None and status == FAILED and document.get("exit_code") is not None:
        error = f"exit code {document['exit_code']}"
    details = {}
    if result is not None:
        details["result"] = result
    if error is not None:
        details["error"] = error if isinstance(error, str) else str(error)
    try:
        return orjson.dumps(details) if details else b""
    except TypeError:  # nested deeper than orjson writes (254): nobody could be sent it
        return b""
