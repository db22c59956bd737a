"""Addresses, paths and names: text that has to have a certain form, and stays text.

Every parser takes the text of one scalar and returns it in the form in which the rest of the
gateway may rely on it, or raises ``BadText``. What is refused here never has to be escaped later:
these texts end up in subjects, metric labels, URLs, header fields and logs.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

_HOST: Final = re.compile(
    # RFC 1123 section 2.1, with the underscores that container names have.
    r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
    r"(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*"
)
_HTTP_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2
_SEGMENT: Final = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+")  # RFC 3986 pchar
_ENCODED: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_FIELD_VALUE: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?")  # RFC 9110 section 5.5, less obs-text
_TEMPLATE: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]{0,63})\}")


TAG_PREFIX: Final = "siger."
"""What a tag in Consul begins with when it is meant for this gateway."""


class BadText(ValueError):
    """The text has not the expected form. ``why`` says more than that, or is ``""``."""

    def __init__(self, why: str, suggestion: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.suggestion = suggestion


def parse_listen_address(text: str) -> str:
    """``8080`` -> ``:8080``; ``host:port`` as it stands. Port 0 means any free one.

    :raises BadText: if it is neither.
    """
    if re.fullmatch(r"[0-9]+", text):
        text = f":{text}"
    if text.startswith("*:"):
        raise BadText("every interface is written without a host", text[1:])
    _split(text, lowest_port=0, host_required=False)
    return text


def parse_host_port(text: str) -> str:
    """``host:port``, ``[::1]:port``; ports 1 to 65535.

    :raises BadText: if it is not.
    """
    _split(text, lowest_port=1, host_required=True)
    return text


def parse_address(text: str) -> str:
    """A host name, an IP address (bare, or IPv6 in brackets), or any of them with a port.

    :raises BadText: if it is none of these.
    """
    try:
        ipaddress.ip_address(text)
    except ValueError:
        if ":" in text:
            return parse_host_port(text)
        _check_host(text)
    return text


def parse_server_name(text: str) -> str:
    """A host name or an IP address, without port: what a certificate is made out to.

    :raises BadText: if it is neither.
    """
    try:
        ipaddress.ip_address(text)
    except ValueError:
        _check_host(text)
    return text


def parse_consul_address(text: str) -> str:
    """``host:port``, without the ``http://`` that CONSUL_HTTP_ADDR often has.

    :raises BadText: if it is anything else; ``https://`` too.
    """
    return parse_host_port(text.removeprefix("http://"))


def parse_nats_address(text: str) -> str:
    """``host:port,host:port`` without spaces and without ``nats://``.

    :raises BadText: if one of them is anything else; credentials and ``tls://`` too.
    """
    parts = [part.strip().removeprefix("nats://") for part in text.split(",")]
    if "" in parts:
        raise BadText("there is nothing between two commas")
    return ",".join(map(parse_host_port, parts))


def parse_token(text: str) -> str:
    """Letters, digits, ``_`` and ``-``, 1 to 64 characters.

    :raises BadText: if it is not.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        raise BadText("")
    return text


def parse_service_name(text: str) -> str:
    """Letters, digits, ``.``, ``_`` and ``-``, 1 to 128 characters, the first no punctuation.

    :raises BadText: if it is not.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", text):
        raise BadText("")
    return text


def parse_exposed_name(text: str) -> str:
    """``*`` or a service name.

    :raises BadText: if it is neither.
    """
    return text if text == "*" else parse_service_name(text)


def parse_path(text: str) -> str:
    """A path without query, dot segments, empty segments and wildcards.

    :raises BadText: if it is not one, or holds ``{name}``.
    """
    for segment in _segments(text):
        if "{" in segment or "}" in segment:
            raise BadText("only match.path can hold {names}")
        _check_segment(segment, text)
    return text


def parse_path_template(text: str) -> str:
    """A path in which whole segments may be ``{name}``, each name once.

    :raises BadText: if it is not one.
    """
    names: set[str] = set()
    for segment in _segments(text):
        if "{" not in segment and "}" not in segment:
            _check_segment(segment, text)
            continue
        found = _TEMPLATE.fullmatch(segment)
        if not found:
            raise BadText("a {name} is a whole segment, of letters, digits and _")
        if found[1] in names:
            raise BadText(f"{{{found[1]}}} stands in it twice")
        names.add(found[1])
    return text


def parse_network(text: str) -> str:
    """``10.0.0.0/8`` or a single address, as it stands.

    :raises BadText: if it is neither, or has bits outside of its mask.
    """
    try:
        ipaddress.ip_network(text)
    except ValueError:
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise BadText("") from None
        raise BadText("it has bits outside of its mask", str(network)) from None
    return text


def parse_method(text: str) -> str:
    """A method name (RFC 9110 section 9.1) without lower-case letters.

    :raises BadText: if it is not one.
    """
    if not _HTTP_TOKEN.fullmatch(text):
        raise BadText("")
    if text != text.upper():
        raise BadText("methods are case-sensitive", text.upper())
    return text


_CONDITIONS: Final = frozenset(
    {"connect", "reset"}
    | {"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"}
)


def parse_retry_condition(text: str) -> str:
    """``connect``, ``reset``, a status from 400 to 599, or a code of gRPC.

    :raises BadText: if it is none of them.
    """
    if text in _CONDITIONS or re.fullmatch(r"[45][0-9]{2}", text):
        return text
    words = {"refused": "connect", "connect-failure": "connect", "5xx": "503", "timeout": "reset"}
    raise BadText("", words.get(text.lower(), ""))


def parse_host_pattern(text: str) -> str:
    """A lower-case host name or IP address, or ``*.suffix``.

    :raises BadText: if it is none of these, or has a port.
    """
    if text != text.lower():
        raise BadText("it is compared in lower case", text.lower())
    host, colon, port = text.rpartition(":")
    if colon and not text.endswith("]") and re.fullmatch(r"[0-9]*", port) and host.count(":") == 0:
        raise BadText("the port takes no part in matching", host)
    name = text.removeprefix("*.")
    if "*" in name:
        raise BadText("a * can only be the whole first label")
    if text.startswith("[") and text.endswith("]"):
        _check_ipv6(text[1:-1])
    else:
        _check_host(name)
    return text


def parse_host_name(text: str) -> str:
    """A lower-case host name or IP address, IPv6 in brackets.

    :raises BadText: if it is none of these, or has a port.
    """
    if text.startswith("*"):
        raise BadText("a * can only be matched")
    return parse_host_pattern(text)


def parse_authority(text: str) -> str:
    """What a Host field holds (RFC 9110 section 7.2): a host, IPv6 in brackets, maybe a port.

    :raises BadText: if it is anything else.
    """
    if text.startswith("[") and text.endswith("]"):
        _check_ipv6(text[1:-1])
    elif ":" in text:
        parse_host_port(text)
    else:
        _check_host(text)
    return text


def parse_header_value(text: str) -> str:
    """A field value of printable ASCII characters, without space around it.

    :raises BadText: if it is empty, or holds anything else: a line break would begin a new field.
    """
    if not _FIELD_VALUE.fullmatch(text):
        why = "it is empty" if not text else "only printable ASCII, and no space around it"
        raise BadText(why, text.strip() if _FIELD_VALUE.fullmatch(text.strip()) else "")
    return text


def parse_header_name(text: str) -> str:
    """A field name (RFC 9110 section 5.1), in lower case.

    :raises BadText: if it is not one.
    """
    if not _HTTP_TOKEN.fullmatch(text):
        raise BadText("")
    return text.lower()


def parse_hash_key(text: str) -> str:
    """``client_ip``, ``path``, ``header:NAME`` (then in lower case) or ``cookie:NAME``.

    :raises BadText: if it is none of these.
    """
    kind, _, name = text.partition(":")
    if text in ("client_ip", "path"):
        return text
    if kind not in ("header", "cookie"):
        raise BadText("")
    if not _HTTP_TOKEN.fullmatch(name):  # a cookie's name is one too (RFC 6265 section 4.1.1)
        raise BadText("that is no name" if name else "the name is missing")
    return f"header:{name.lower()}" if kind == "header" else text


def parse_host_header(text: str) -> str:
    """``preserve``, ``endpoint``, or ``host`` with or without ``:port``.

    :raises BadText: if it is none of these.
    """
    if text.lower() in ("preserve", "endpoint"):
        if text != text.lower():
            raise BadText("", text.lower())
        return text
    if text.startswith("[") and text.endswith("]"):
        _check_ipv6(text[1:-1])
    elif ":" in text:
        return parse_host_port(text)
    else:
        _check_host(text)
    return text


def parse_url(text: str) -> str:
    """``https://host/path``, with a port and a query if need be.

    :raises BadText: if it is not.
    """
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in ("http", "https"):
        raise BadText("it begins with https:// or http://")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if "#" in rest:
        raise BadText("a fragment never leaves a client", text.partition("#")[0])
    if not re.fullmatch(r"[!-~]*", rest):
        raise BadText("other characters than those of RFC 3986 are written as %XX")
    parse_address(authority)
    return text


def parse_word(text: str) -> str:
    """A role or a scope.

    :raises BadText: if it could not stand in a list of them in a header field.
    """
    if not re.fullmatch(r"[!#-+\--\[\]-~]{1,128}", text):  # RFC 6749 section 3.3, less the comma
        raise BadText("")
    return text


def parse_limit_key(text: str) -> str:
    """``client_ip``, ``user``, ``api_key`` or ``header:NAME``; names in lower case.

    :raises BadText: if it is none of them.
    """
    if text in ("client_ip", "user", "api_key"):
        return text
    kind, _, name = text.partition(":")
    if kind != "header":
        raise BadText("")
    return f"header:{parse_header_name(name)}"


def _split(text: str, *, lowest_port: int, host_required: bool) -> None:
    if "://" in text:
        raise BadText("it has no scheme", text.partition("://")[2].rstrip("/"))
    if "@" in text:
        raise BadText("credentials do not belong here")
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]"):
        raise BadText("the port is missing")
    if host.startswith("[") and host.endswith("]"):
        _check_ipv6(host[1:-1])
    elif ":" in host:
        raise BadText("an IPv6 address is written in brackets, as in [::1]:8080")
    elif host:
        _check_host(host)
    elif host_required:
        raise BadText("the host is missing")
    if not re.fullmatch(r"0|[1-9][0-9]{0,4}", port) or not lowest_port <= int(port) <= 65535:
        raise BadText(f"the port must be a number from {lowest_port} to 65535")


def _check_host(host: str) -> None:
    if not _HOST.fullmatch(host):
        raise BadText("that is no host name")
    if re.fullmatch(r"[0-9.]+", host):  # only digits: meant as an IPv4 address
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            raise BadText("that is no IPv4 address") from None


def _check_ipv6(host: str) -> None:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        raise BadText("that is no IPv6 address") from None


def _segments(path: str) -> list[str]:
    if not path.startswith("/"):
        raise BadText('it begins with "/"', f"/{path}" if _SEGMENT.match(path) else "")
    if path == "/":
        return []
    segments = path[1:].split("/")
    if "" in segments:
        tidy = "/" + "/".join(filter(None, segments))
        raise BadText("a segment is empty", tidy)
    return segments


def _check_segment(segment: str, path: str) -> None:
    if segment.lower().replace("%2e", ".") in (".", ".."):
        raise BadText("dot segments are not allowed")
    if "?" in segment or "#" in segment:
        raise BadText("a query or fragment takes no part in matching", re.split("[?#]", path)[0])
    if segment in ("*", "**"):
        raise BadText("a * is no wildcard; path_prefix takes everything below it")
    if not _SEGMENT.fullmatch(segment):
        raise BadText("other characters than those of RFC 3986 are written as %XX")
    if _ENCODED.sub(_plainest, segment) != segment:  # it would match nothing, or too little
        plain = _ENCODED.sub(_plainest, path)
        raise BadText("only other characters are written as %XX, in capitals", plain)


def _plainest(code: re.Match[str]) -> str:
    """What stands for an encoded character in the paths that routes are compared with, see
    ``routing.path``; one that a path may hold as it is, is not encoded."""
    character = chr(int(code[1], 16))
    plain = _SEGMENT.fullmatch(character) is not None and character != ";"
    return character if plain else code[0].upper()
