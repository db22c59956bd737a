"""What the text of one scalar means: one parser per kind of value that the schema names.

``read_scalar`` is the only way from text to a typed value, for the file and for the environment. It
is strict: a boolean is not a number, a number is not a name, and every refusal says what was
expected and what was found. ``""`` means "not set" where it is the default, or where the schema
says so, and is a mistake elsewhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection
from dataclasses import Field, dataclass, is_dataclass
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from siger_gateway.config import document, kinds
from siger_gateway.config.names import (
    BadText,
    parse_address,
    parse_consul_address,
    parse_exposed_name,
    parse_hash_key,
    parse_header_name,
    parse_header_value,
    parse_host_header,
    parse_host_name,
    parse_host_pattern,
    parse_host_port,
    parse_limit_key,
    parse_listen_address,
    parse_method,
    parse_nats_address,
    parse_network,
    parse_path,
    parse_path_template,
    parse_retry_condition,
    parse_server_name,
    parse_service_name,
    parse_token,
    parse_url,
    parse_word,
)
from siger_gateway.config.problem import nearest, shown
from siger_gateway.config.units import (
    format_duration,
    format_percent,
    format_size,
    parse_duration,
    parse_percent,
    parse_size,
)

SECRET_FILE: Final = "file:"
"""What a secret begins with when it stands in a file."""
MAX_SECRET: Final = 64 * 1024
"""Characters of such a file; /dev/zero has more."""


class BadValue(ValueError):
    """A value that its field does not take: ``reason`` is a sentence, ``suggestion`` a value."""

    def __init__(self, reason: str, suggestion: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.suggestion = suggestion


@dataclass(frozen=True, slots=True)
class Value:
    """A scalar after expansion. ``source`` is the text before it; the same if no variable took
    part, and then ``kind`` says what YAML takes the text for."""

    text: str
    kind: document.Kind
    plain: bool
    source: str
    expanded: bool = True

    def described(self) -> str:
        """``the number 5``, for "expected ..., found the number 5"."""
        if self.expanded:
            written = f" (from {shown(self.source)})" if self.source != self.text else ""
            return f'"{shown(self.text)}"{written}'
        if self.kind == "nothing":
            return "nothing"
        if self.kind == "string":
            return f'the string "{shown(self.text)}"'
        kind = "number" if self.kind == "integer" else self.kind
        return f"the {kind} {shown(self.text)}"


@dataclass(frozen=True, slots=True)
class Rule:
    """What the schema says about a field beside its type; see ``kinds.doc``."""

    least: float | None = None
    most: float | None = None
    one_of: tuple[int, ...] = ()
    secret: bool = False
    optional: bool = False  # "" means "not set"
    alone: bool = False

    @classmethod
    def of(cls, field: Field[Any]) -> Rule:
        """The rule of one field of a schema class."""
        return cls(
            least=field.metadata.get("least"),
            most=field.metadata.get("most"),
            one_of=field.metadata.get("one_of", ()),
            secret=field.metadata.get("secret", False),
            optional=field.metadata.get("empty", False) or field.default == "",
            alone=field.metadata.get("alone", False),
        )


@dataclass(frozen=True, slots=True)
class _Kind:
    """One ``Annotated`` word: how its text is parsed, and what a refusal says was expected.

    ``numeric``: YAML may take the text for a number, as it does with ``8080``.
    """

    expected: str
    parse: Callable[[str], Any]
    numeric: bool = False


def bare(hint: Any) -> Any:
    """The type without ``Annotated``."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def is_scalar(hint: Any) -> bool:
    """Whether values of this type are written as one scalar."""
    plain = bare(hint)
    return not is_dataclass(plain) and get_origin(plain) not in (tuple, dict)


def choices(hint: Any) -> tuple[str, ...]:
    """The values of a ``Literal`` type; empty for other types."""
    return get_args(hint) if get_origin(hint) is Literal else ()


def read_scalar(value: Value, hint: Any, rule: Rule) -> Any:
    """The typed value of one scalar: seconds for durations, bytes for sizes.

    :param hint: a scalar type of the schema, with its annotation.
    :raises BadValue: if the text is not one, or breaks the rule.
    """
    if not rule.secret:
        return _read(value, hint, rule)
    try:
        text = _read(value, hint, rule)
    except BadValue:
        raise BadValue("expected text in quotes, without control characters") from None
    return _secret_file(text.removeprefix(SECRET_FILE)) if text.startswith(SECRET_FILE) else text


def _secret_file(path: str) -> str:
    """What a file of one line holds, as container platforms mount secrets.

    :raises BadValue: which names the file, and nothing of what it holds.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read(MAX_SECRET + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise BadValue(f"the file {shown(path)} cannot be read: {why}") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text or len(text) > MAX_SECRET or not text.isprintable():
        what = "nothing" if not text else "more than one line of text"
        raise BadValue(f"the file {shown(path)} holds {what}")
    return text


def _read(value: Value, hint: Any, rule: Rule) -> Any:
    _refuse_control_characters(value, "\n\t" if hint == kinds.Text else "")
    if rule.optional and not value.text and value.kind == "string":
        return ""
    if options := choices(hint):
        return _choice(value, options)
    if get_origin(hint) is Annotated:
        kind = _KINDS[get_args(hint)[1]]
        result = _parsed(value, kind)
    else:
        result = _BASIC[hint](value)
    _check_range(result, hint, rule)
    return result


def _refuse_control_characters(value: Value, allowed: str) -> None:
    # They would reach logs, header fields and subjects. A lone surrogate is not Unicode text.
    if any(
        (ord(one) < 0x20 and one not in allowed) or ord(one) == 0x7F or 0xD800 <= ord(one) < 0xE000
        for one in value.text
    ):
        raise BadValue(f"control characters are not allowed, found {value.described()}")


def _parsed(value: Value, kind: _Kind) -> Any:
    numbers = ("integer", "number") if kind.numeric else ()
    if not value.expanded and value.kind not in ("string", *numbers):
        raise _unexpected(kind.expected, value)
    try:
        return kind.parse(value.text)
    except BadText as error:
        why = f": {error.why}" if error.why else ""
        reason = f"expected {kind.expected}, found {value.described()}{why}"
        raise BadValue(reason, error.suggestion) from None


def _unexpected(expected: str, value: Value) -> BadValue:
    reason = f"expected {expected}, found {value.described()}"
    if value.kind == "nothing":
        return BadValue(f'{reason}; remove the key to get the default, or write "" where allowed')
    if value.kind == "string":
        return BadValue(f"{reason}; write it without quotes" if not value.plain else reason)
    return BadValue(f"{reason}; put it in quotes")


def _string(value: Value) -> str:
    if not value.expanded and value.kind != "string":
        raise _unexpected("a string", value)
    return value.text


def _integer(value: Value) -> int:
    # 18 digits fit every counter; without the bound, int() takes quadratic time. YAML 1.1 reads
    # 010 as 8 and 1:30 as 90: neither is what was meant.
    if not value.expanded and value.kind != "integer":
        raise _unexpected_number("a whole number", value)
    if not re.fullmatch(r"[-+]?(0|[1-9][0-9]{0,17})", value.text):
        raise BadValue(f"expected a whole number in decimal digits, found {value.described()}")
    return int(value.text)


def _number(value: Value) -> float:
    # YAML 1.1 takes a bare 1e-3 for a string; nobody else does.
    if not value.expanded and value.kind not in ("integer", "number") and not value.plain:
        raise _unexpected_number("a number", value)
    if not re.fullmatch(
        r"[-+]?([0-9]{1,18}(\.[0-9]{0,18})?|\.[0-9]{1,18})([eE][-+]?[0-9]{1,3})?", value.text
    ):
        raise BadValue(f"expected a number, found {value.described()}")
    number = float(value.text)
    if not math.isfinite(number):
        raise BadValue(f"expected a number, found {value.described()}")
    return number


def _unexpected_number(expected: str, value: Value) -> BadValue:
    if value.kind == "string" and not value.plain and re.fullmatch(r"[-+.0-9]+", value.text):
        return _unexpected(expected, value)
    return BadValue(f"expected {expected}, found {value.described()}")


def _boolean(value: Value) -> bool:
    if value.expanded or value.kind == "boolean":
        word = value.text.lower()
        if word in ("true", "yes", "on"):  # YAML 1.1's words
            return True
        if word in ("false", "no", "off"):
            return False
    raise BadValue(f"expected true or false, found {value.described()}")


def _choice(value: Value, options: Collection[str]) -> str:
    if value.kind != "nothing" and value.text in options:
        return value.text
    raise BadValue(
        f"expected {_listed(options)}, found {value.described()}", nearest(value.text, options)
    )


def _listed(options: Collection[str]) -> str:
    *others, last = options
    return f"one of {', '.join(others)} or {last}" if others else str(last)


def _check_range(result: Any, hint: Any, rule: Rule) -> None:
    if rule.one_of and result not in rule.one_of:
        raise BadValue(f"must be {_listed([str(n) for n in rule.one_of])}, found {result}")
    too_low = rule.least is not None and result < rule.least
    too_high = rule.most is not None and result > rule.most
    if not too_low and not too_high:
        return
    least, most = (None if n is None else written(n, hint) for n in (rule.least, rule.most))
    wanted = f"between {least} and {most}" if least and most else f"at least {least}"
    raise BadValue(f"must be {wanted}, found {written(result, hint)}")


def written(value: Any, hint: Any) -> str:
    """A value of the schema the way that it is written in the file, without quotes."""
    if hint == kinds.Duration:
        return format_duration(value)
    if hint == kinds.Percent:
        return format_percent(value)
    if hint == kinds.Size:
        return format_size(value)
    if isinstance(value, bool):
        return str(value).lower()
    if bare(hint) is float and float(value).is_integer():
        return f"{value:.1f}"
    return str(value)


_BASIC: Final[dict[Any, Callable[[Value], Any]]] = {
    str: _string,
    int: _integer,
    float: _number,
    bool: _boolean,
}

_KINDS: Final[dict[str, _Kind]] = {
    "duration": _Kind("a duration such as 250ms, 30s, 5m or 24h", parse_duration, numeric=True),
    "size": _Kind("a size such as 512, 64KiB or 10MiB", parse_size, numeric=True),
    "percent": _Kind("a percentage such as 50%", parse_percent, numeric=True),
    "listen address": _Kind(
        "a listen address such as :8080 or 127.0.0.1:8080", parse_listen_address, numeric=True
    ),
    "host:port": _Kind("host:port", parse_host_port),
    "address": _Kind("a host or host:port", parse_address),
    "server name": _Kind("a host name or an IP address, without port", parse_server_name),
    "consul address": _Kind("host:port", parse_consul_address),
    "nats address": _Kind("host:port, or several with commas", parse_nats_address),
    "token": _Kind("a name of letters, digits, _ and -, 1 to 64 characters", parse_token),
    "service name": _Kind("a service name of letters, digits, ., _ and -", parse_service_name),
    "exposed name": _Kind('a service name, or "*" for all', parse_exposed_name),
    "path": _Kind("a path such as /api/v1", parse_path),
    "path template": _Kind("a path such as /users/{id}", parse_path_template),
    "network": _Kind("a network such as 10.0.0.0/8, or an address", parse_network),
    "method": _Kind("an HTTP method in upper case", parse_method),
    "retry condition": _Kind(
        "connect, reset, a status from 400 to 599, or a code of gRPC like unavailable",
        parse_retry_condition,
        numeric=True,
    ),
    "host": _Kind("a host without port, or *.suffix", parse_host_pattern),
    "host name": _Kind("a host without port", parse_host_name),
    "host header": _Kind("preserve, endpoint, or host or host:port", parse_host_header),
    "header name": _Kind("a header field name", parse_header_name),
    "hash key": _Kind("client_ip, path, header:NAME or cookie:NAME", parse_hash_key),
    "header value": _Kind("the value of a header field", parse_header_value, numeric=True),
    "text": _Kind("text", str),
    "url": _Kind("a URL such as https://id.example.com/jwks.json", parse_url),
    "word": _Kind("a word without spaces, commas and quotes", parse_word),
    "limit key": _Kind("client_ip, user, api_key or header:NAME", parse_limit_key),
}
