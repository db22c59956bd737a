"""What pages of other origins may do on a route, and what cannot be meant so.

A browser compares origins byte by byte with what it writes itself. An origin that no browser writes
would be configured for nothing, and nobody would see why: so it is a problem, and the right one is
named.

An origin is ``https://app.example.com`` (as browsers write it: lower case, no default port, no
path), ``https://*.example.com`` (whatever ends so, any number of labels deep, but not
``https://example.com``) or ``null`` (pages without an origin: sandboxed ones, files); or ``*``
alone. ``*`` stands for all methods and fields too, but ``Authorization`` has to be named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import AddressValueError, IPv6Address
from math import inf
from typing import Final

from siger_gateway.config.policies import CorsConfig

FORBIDDEN_METHODS: Final = frozenset({"CONNECT", "TRACE", "TRACK"})
"""No page can send them (Fetch: "forbidden method")."""

DEFAULT_PORTS: Final = {"http": "80", "https": "443"}
"""Browsers leave them out, so an origin that names one matches nothing."""

_ORIGIN: Final = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]{0,63})://"
    r"(?P<host>(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?"
)
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2


def cors_problem(rules: CorsConfig) -> str:
    """What is wrong with ``rules``, the first thing only; empty when they are good."""
    return next(_problems(rules), "")


def _problems(rules: CorsConfig) -> Iterator[str]:
    if not rules.origins:
        yield "origins: name at least one"
    if "*" in rules.origins and len(rules.origins) > 1:
        yield 'origins: "*" is every origin, so it stands alone'
    if rules.credentials:
        # Browsers then take it for a name, or refuse it (Fetch: "CORS protocol and credentials").
        for key in ("origins", "methods", "headers", "expose"):
            if "*" in getattr(rules, key):
                yield f'{key}: "*" does not go with credentials; list them'
        # Any page can open itself in a sandboxed frame, whose origin is null.
        if "null" in rules.origins:
            yield 'origins: "null" does not go with credentials; every page can be of that origin'
    for origin in rules.origins:
        reason = _origin_problem(origin)
        if reason:
            yield f'origins: "{origin}": {reason}'
    for method in rules.methods:
        if not _is_name(method) or method != method.upper():
            yield f'methods: "{method}": methods are upper-case tokens'
        elif method in FORBIDDEN_METHODS:
            yield f'methods: "{method}": browsers do not let pages send this'
    for key, names in (("headers", rules.headers), ("expose", rules.expose)):
        for name in names:
            if not _is_name(name):
                yield f'{key}: "{name}": this is no field name'
    if not 0 <= rules.max_age < inf:
        yield "max_age: must not be negative, nor infinite"


def _origin_problem(origin: str) -> str:
    if origin in ("*", "null"):
        return ""
    if origin != origin.lower():
        return f'browsers write origins in lower case: "{origin.lower()}"'
    scheme, separator, rest = origin.partition("://")
    if not separator:
        return f'the scheme is missing: "https://{scheme}"'
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if authority != rest:
        return f'an origin ends with its host or port: "{scheme}://{authority}"'
    if not origin.isascii():
        return "write the host in Punycode (xn--)"
    found = _ORIGIN.fullmatch(origin)
    if found is None or not _is_address(found["host"]) or int(found["port"] or 1) > 65535:
        return 'an origin is like "https://app.example.com" or "https://*.example.com"'
    if found["port"] and found["port"] == DEFAULT_PORTS.get(scheme):
        return f'browsers leave the default port out: "{scheme}://{found["host"]}"'
    return ""


def _is_name(text: str) -> bool:
    """Of a method or a field; ``*`` is one too."""
    return _TOKEN.fullmatch(text) is not None


def _is_address(host: str) -> bool:
    """Whether what stands in brackets is an address as browsers write it; a name always is."""
    if host[0] != "[":
        return True
    try:
        return str(IPv6Address(host[1:-1])) == host[1:-1]
    except AddressValueError:
        return False
