"""Reading the parameters of the jobs endpoints: a bad value is an error that names its parameter.
The same for REST (``api.jobs``) and for gRPC (``grpc.jobs_messages``).

Everything here takes the texts of a request and returns values, or raises ``GatewayError`` with
``invalid_fields``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn

from siger_gateway.errors import GatewayError
from siger_gateway.jobs.status import MAX_USER

MAX_WAIT: Final = 60.0
"""Seconds that a long poll may ask for: proxies in between cut at about that."""
DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 1000
"""Jobs on a page."""
MAX_TAGS: Final = 32
"""Tags that a listing may ask for: as many as a job has."""
MAX_KEY: Final = 255
"""Characters of an ``Idempotency-Key``."""
MAX_SEQUENCE: Final = 10**18 - 1
"""Above every sequence that a stream comes to: at a million messages a second, in 30,000 years."""

WAIT: Final = r"([0-5]?[0-9](?:\.[0-9]{1,9})?|60)s?|([1-5]?[0-9]{1,4}|60000)ms|([01])m"
"""What ``wait`` may be: ``MAX_WAIT`` at most. Also in the OpenAPI document."""
SEQUENCE: Final = r"0|[1-9][0-9]{0,17}"
"""A number up to ``MAX_SEQUENCE``, the same."""

_DURATION: Final = re.compile(WAIT)
_UNITS: Final = (1.0, 0.001, 60.0)
TAG: Final = r"[^\u0000-\u001f\u007f]{1,64}"
"""As ``jobs.job`` has it."""
VISIBLE: Final = "[!-~](?:[ -~]*[!-~])?"
"""Printable ASCII: a user, as ``filters.claims`` has it, or an ``Idempotency-Key``."""

_TAG: Final = re.compile(TAG)
_VISIBLE: Final = re.compile(VISIBLE)
_WHOLE: Final = re.compile(SEQUENCE)
_PREFER_WAIT: Final = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?([0-9]{1,9})"?\s*(?=[,;]|$)', re.I)
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def refuse(field: str, detail: str) -> NoReturn:
    """:raises GatewayError: ``invalid_fields`` for one parameter or header field."""
    raise GatewayError("invalid_fields", errors=[{"field": field, "detail": detail}])


def refuse_wait() -> NoReturn:
    """:raises GatewayError: ``invalid_fields`` for a ``wait`` that is none, or too long."""
    refuse("wait", f"must be a duration such as 30s, at most {MAX_WAIT:.0f}s")


def values(name: str, arguments: Mapping[str, Sequence[bytes]]) -> list[str]:
    """All values of a parameter, as they were sent: Tornado's own reading strips them, and makes
    spaces of control characters."""
    try:
        return [value.decode() for value in arguments.get(name, ())]
    except UnicodeDecodeError:
        refuse(name, "must be UTF-8")


def single(name: str, values: Sequence[str]) -> str | None:
    """The value of a parameter that may stand once; None: it does not."""
    if len(values) > 1:
        refuse(name, "may stand only once")
    return values[0] if values else None


def wait(values: Sequence[str]) -> float | None:
    """``wait=30s`` -> 30.0 seconds."""
    text = single("wait", values)
    if text is None:
        return None
    match = _DURATION.fullmatch(text)
    if match is None:
        refuse_wait()
    return float(match[match.lastindex or 0]) * _UNITS[(match.lastindex or 1) - 1]


def preferred_wait(prefer: str) -> float | None:
    """``Prefer: wait=30`` (RFC 7240 section 4.3) -> seconds, cut to what is granted.

    A preference that is not understood is ignored, as its section 2 says.
    """
    match = _PREFER_WAIT.search(prefer)
    return min(float(match[1]), MAX_WAIT) if match else None


def whole(name: str, values: Sequence[str], least: int, most: int) -> int | None:
    """A whole number within bounds."""
    text = single(name, values)
    if text is None:
        return None
    # int() also takes "+1", "1_0", "007", blanks and other scripts' digits.
    if not _WHOLE.fullmatch(text) or not least <= int(text) <= most:
        bounds = f" from {least} to {most}" if most < MAX_SEQUENCE else ""
        refuse(name, f"must be a whole number{bounds}")
    return int(text)


def one_of(name: str, values: Sequence[str], known: Sequence[str]) -> frozenset[str]:
    """Any of the known words; the parameter may stand several times."""
    if any(value not in known for value in values):
        refuse(name, "must be one of: " + ", ".join(known))
    return frozenset(values)


def tokens(name: str, values: Sequence[str]) -> frozenset[str]:
    """Tokens such as job types."""
    if not all(_TOKEN.fullmatch(value) for value in values):
        refuse(name, "must be a token of 1 to 64 letters, digits, '_' or '-'")
    return frozenset(values)


def texts(name: str, values: Sequence[str]) -> frozenset[str]:
    """Texts such as tags."""
    if not all(_TAG.fullmatch(value) for value in values) or len(values) > MAX_TAGS:
        refuse(
            name,
            "must be a string of 1 to 64 characters, no control characters, at most "
            f"{MAX_TAGS} times",
        )
    return frozenset(values)


def users(name: str, values: Sequence[str]) -> frozenset[str]:
    """Users."""
    if not all(_VISIBLE.fullmatch(value) and len(value) <= MAX_USER for value in values):
        refuse(name, f"must be a user, of 1 to {MAX_USER} characters of printable ASCII")
    return frozenset(values)


def idempotency_key(values: Sequence[str], name: str = "Idempotency-Key") -> str | None:
    """The key of ``Idempotency-Key``, or of a field that is it elsewhere."""
    key = single(name, values)
    if key is not None and not (_VISIBLE.fullmatch(key) and len(key) <= MAX_KEY):
        refuse(name, f"must have 1 to {MAX_KEY} characters of printable ASCII")
    return key


def entity_tag(if_none_match: str) -> int | None:
    """The one sequence that ``If-None-Match`` names; None: none, several, or not one of ours."""
    tag = if_none_match.strip().removeprefix("W/")
    digits = tag[1:-1]
    if len(tag) > 2 and tag[0] == tag[-1] == '"' and digits.isascii() and digits.isdigit():
        return int(digits) if len(digits) < 20 else None
    return None
