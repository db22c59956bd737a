"""A job as a client submits it: its fields, its lane, its id. Pure functions, no I/O.

The fields and their bounds stand once, in ``JobRequest``: msgspec checks values against them and
writes the JSON schema of the OpenAPI document from them. msgspec stops at the first bad field, so
``parse_body`` decodes to a plain mapping first and then converts field by field: a client learns
about every bad field at once, and no input leads to anything but a ``GatewayError``.

``type`` becomes a token of a NATS subject. A dot, a space or a wildcard in it could reach other
subjects, so it is refused here and nothing else in this package builds a subject from client text.
"""

from __future__ import annotations

import hashlib
import os
import struct
import threading
import time
import uuid
from typing import Annotated, Any, Final

import msgspec
import orjson
from msgspec import UNSET, Meta, UnsetType

from siger_gateway.errors import GatewayError

MAX_BODY: Final = 1_000_000
"""Bytes of a job body: a NATS message holds 1 MiB by default, and some fields are added to it."""

MAX_DEPTH: Final = 64
"""Nesting of ``params``: far above what anyone writes, below what orjson can write again (254)."""

LANES: Final = ("high", "normal")
"""The lanes, most urgent first. The default priority 0 is ``normal``: nobody has to ask for it."""

HIGH_FROM: Final = 50
"""Priorities from here to 100 go into the lane ``high``."""

ANONYMOUS: Final = "anonymous"
"""The ``user_id`` of a job that was submitted without authentication."""

_END: Final = r"(?![\s\S])"
"""The true end of the text, in Python and in ECMAScript; ``$`` would let a last newline pass."""

Token = Annotated[
    str,
    Meta(
        pattern=rf"^[A-Za-z0-9_-]{{1,64}}{_END}",
        description="a token of 1 to 64 letters, digits, '_' or '-'",
    ),
]
_Line = rf"^[^\u0000-\u001f\u007f]*{_END}"
Tag = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        pattern=_Line,
        description="a string of 1 to 64 characters, no control characters",
    ),
]


class JobRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of ``POST /api/v1/jobs``; a field that was not sent is not in the job document."""

    type: Token
    name: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=256,
            pattern=_Line,
            description="a string of 1 to 256 characters, no control characters",
        ),
    ]
    description: Annotated[
        str, Meta(max_length=4096, description="a string of at most 4096 characters")
    ] = ""
    gpu_type: Annotated[
        str,
        Meta(
            max_length=128,
            pattern=_Line,
            description="a string of at most 128 characters, no control characters",
        ),
    ] = ""
    gpu_count: (
        Annotated[int, Meta(ge=1, le=2**31 - 1, description="an integer, 1 or more")] | UnsetType
    ) = UNSET
    priority: Annotated[int, Meta(ge=0, le=100, description="an integer from 0 to 100")] = 0
    params: Annotated[
        dict[str, Any], Meta(description=f"an object, nested at most {MAX_DEPTH} deep")
    ] = {}
    tags: Annotated[
        list[Tag],
        Meta(
            max_length=32,
            description="an array of at most 32 strings of 1 to 64 characters, "
            "no control characters",
        ),
    ] = []

    @property
    def lane(self) -> str:
        """The lane of ``LANES`` that the priority leads to."""
        return LANES[0] if self.priority >= HIGH_FROM else LANES[1]

    def fields(self) -> dict[str, Any]:
        """The job document without what the gateway adds; ``priority`` is always there."""
        document: dict[str, Any] = msgspec.to_builtins(self)
        document["priority"] = self.priority
        return document

    def digest(self) -> str:
        """What makes two bodies the same: SHA-256 over the fields, whatever their order (hex)."""
        return digest_of(self.fields())


def digest_of(fields: dict[str, Any]) -> str:
    """``JobRequest.digest`` of a request with these ``fields()``."""
    canonical = orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(canonical).hexdigest()


def _expectation(kind: Any) -> str:
    """The description of a field's type, which is what the client is told to send."""
    for part in (kind, *getattr(kind, "__args__", ())):
        for meta in getattr(part, "__metadata__", ()):
            if isinstance(meta, Meta) and meta.description:
                return meta.description
    raise TypeError(f"a field without a description: {kind}")


def _sent(kind: Any) -> Any:
    """``X | UnsetType`` -> ``X``: what the field may hold when it is there."""
    parts: tuple[Any, ...] = getattr(kind, "__args__", ())
    return parts[0] if UnsetType in parts else kind


_FIELDS: Final = {
    field.name: (_sent(field.type), _expectation(field.type), field.required)
    for field in msgspec.structs.fields(JobRequest)
}


def parse_body(raw: bytes, types: tuple[str, ...] = ()) -> JobRequest:
    """Checks a submitted body.

    :param raw: the JSON text.
    :param types: the job types that are accepted; empty means any token.
    :raises GatewayError: ``body_too_large``, ``malformed_json`` or ``invalid_fields``, the last
        one with every bad field in ``errors``.
    """
    if len(raw) > MAX_BODY:
        raise GatewayError("body_too_large", f"A job body may hold {MAX_BODY} bytes.")
    try:
        document = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise GatewayError("malformed_json") from None
    if not isinstance(document, dict):
        raise GatewayError("invalid_fields", errors=[_bad("", "must be a JSON object")])
    try:
        request = msgspec.convert(document, JobRequest)
        if _is_shallow(request.params) and (not types or request.type in types):
            return request
    except msgspec.ValidationError:  # everything else that is wrong is to be found
        pass
    errors = [_bad(name, "is not a known field") for name in document if name not in _FIELDS]
    values: dict[str, Any] = {}
    for name, (kind, expectation, required) in _FIELDS.items():
        if name not in document:
            if required:
                errors.append(_bad(name, f"is required: {expectation}"))
            continue
        try:
            values[name] = msgspec.convert(_plain(document[name]), kind)
        except msgspec.ValidationError:
            errors.append(_bad(name, f"must be {expectation}"))
    if "params" in values and not _is_shallow(values["params"]):
        errors.append(_bad("params", f"must be {_FIELDS['params'][1]}"))
    if types and "type" in values and values["type"] not in types:
        errors.append(_bad("type", "must be one of: " + ", ".join(types)))
    if errors:
        raise GatewayError("invalid_fields", errors=errors[:100])
    return JobRequest(**values)


def _plain(value: Any) -> Any:
    """``4.0`` is the integer 4 (JSON Schema section 6.1.1), and some languages write it so."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _bad(field: str, detail: str) -> dict[str, str]:
    return {"field": field[:100], "detail": detail}


def _is_shallow(value: Any) -> bool:
    """Whether ``value`` nests at most ``MAX_DEPTH`` deep; level by level, so without recursion."""
    if isinstance(value, dict) and not any(
        [isinstance(item, dict | list) for item in value.values()]
    ):
        return True  # as nearly all are
    level = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        if not below:
            return True
        level = below
    return not any(isinstance(item, dict | list) for item in level)


class _Chance:
    """Random bits of the system, which are asked for in blocks: a call for each costs more than
    all else about an id."""

    def __init__(self) -> None:
        self._values: list[int] = []

    def bits62(self) -> int:
        while True:
            try:
                return self._values.pop()  # one step, so that threads get different ones
            except IndexError:
                block = os.urandom(8 * 256)
                self._values.extend(value >> 2 for (value,) in struct.iter_unpack("Q", block))


class _Clock:
    """Where UUIDv7s get their first 60 bits from: milliseconds, and a counter within one."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def tick(self) -> int:
        """Milliseconds since 1970 (48 bits) << 12 | counter; every call gives a larger one.

        RFC 9562 section 6.2, method 1: the counter starts again with every millisecond, and when
        its 12 bits are used up the milliseconds run ahead of the clock.
        """
        with self._lock:
            now = time.time_ns() // 1_000_000 << 12
            self._last = max(self._last + 1, now)
            return self._last


_clock: Final = _Clock()
_chance: Final = _Chance()


def new_job_id() -> str:
    """A UUID version 7 (RFC 9562 section 5.7): ids made later by this process sort later."""
    tick = _clock.tick()
    value = (tick >> 12) << 80 | 0x7 << 76 | (tick & 0xFFF) << 64
    value |= 0b10 << 62 | _chance.bits62()
    digits = f"{value:032x}"  # as str(uuid.UUID) has it, at a third of the cost
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def derived_job_id(user_id: str, key: str) -> str:
    """The id of the one job that this user may submit under this ``Idempotency-Key``.

    A UUID version 8 (RFC 9562 section 5.8), its bits from SHA-256: the same on every gateway, so
    that the stream itself can refuse a second job for as long as it holds the first. It does not
    sort by time; a version 7 with a made-up time would only pretend to.
    """
    secret = hashlib.sha256(b"\0".join((b"siger-job", user_id.encode(), key.encode()))).digest()
    value = int.from_bytes(secret[:16], "big")
    value = value & ~(0xF << 76) | 0x8 << 76
    value = value & ~(0b11 << 62) | 0b10 << 62
    return str(uuid.UUID(int=value))


def parse_job_id(text: str) -> str:
    """The canonical form of an id from a path.

    :raises GatewayError: ``not_found``; what is not a UUID cannot be a job.
    """
    try:
        parsed = uuid.UUID(text)
    except ValueError:
        raise no_such_job() from None
    if len(text) != 36:  # uuid.UUID also takes braces, urn: and no hyphens
        raise no_such_job()
    return str(parsed)


def no_such_job() -> GatewayError:
    """The answer for an id that no stored job has."""
    return GatewayError("not_found", "No job has this id, or it is past its retention.")
