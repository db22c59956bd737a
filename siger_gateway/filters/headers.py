"""Header fields about security: those that browsers get, and those that no client may send.

What goes to browsers is built when a route is compiled; a response costs one look at the names that
the service has sent itself, which always win. What says who a user is comes from the gateway alone:
``IDENTITY_FIELDS`` are removed from every request, whoever sends it and on every route.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Final

from siger_gateway.config.policies import SecurityHeadersConfig
from siger_gateway.http.headers import Headers, find_all

VARY: Final = b"vary"


@dataclass(frozen=True, slots=True)
class SecurityHeaders:
    """The fields ready to be sent, by how the client has come. Shared: never changed."""

    http: Headers
    https: Headers


def security_headers(config: SecurityHeadersConfig) -> SecurityHeaders:
    """The fields that ``config`` asks for, which ``add_missing`` adds to a response.

    ``Strict-Transport-Security`` is for HTTPS alone (RFC 6797 section 7.2), as the client speaks
    it: with TLS ended by a proxy in front, what a trusted ``X-Forwarded-Proto`` says.

    :raises UnicodeEncodeError: if a value is not ASCII.
    """
    both = (
        (b"x-content-type-options", config.x_content_type_options),
        (b"x-frame-options", config.x_frame_options),
        (b"referrer-policy", config.referrer_policy),
        (b"content-security-policy", config.content_security_policy),
        (b"permissions-policy", config.permissions_policy),
    )
    http = [(name, value.encode("ascii")) for name, value in both if value]
    transport = config.strict_transport_security.encode("ascii")
    https = [(b"strict-transport-security", transport), *http] if transport else http
    return SecurityHeaders(http, https)


def add_missing(headers: Headers, fields: Headers) -> None:
    """Adds to ``headers`` those of ``fields`` whose names are not there yet.

    ``dict`` is the cheapest way to all names, for it runs without Python code per field: the whole
    takes 0.7 us for 12 headers and 4 fields (``python -m benchmarks.filters``).
    """
    present = dict(headers)
    for field in fields:
        if field[0] not in present:
            headers.append(field)


def merge_vary(headers: Headers, added: Headers) -> Headers:
    """The fields ``headers`` and ``added``, with what ``Vary`` says in both in one field; a new
    list."""
    merged = [*headers, *added]
    if VARY not in dict(added):  # nearly always, and cheaper than to look through all of them
        return merged
    values = find_all(merged, VARY)
    if len(values) < 2:
        return merged
    names: dict[bytes, bytes] = {}
    for value in values:
        for member in value.split(b","):
            name = member.strip()
            if name:
                names.setdefault(name.lower(), name)
    # ``*`` says that everything matters (RFC 9110 section 12.5.5).
    vary = b"*" if b"*" in names else b", ".join(names.values())
    return [*(field for field in merged if field[0] != VARY), (VARY, vary)]


def spellings(*names: bytes) -> frozenset[bytes]:
    """``names``, with each hyphen also as an underscore: a service that reads header fields as
    CGI variables (RFC 3875 section 4.1.18) cannot tell ``x_user-id`` from ``x-user-id``."""
    return frozenset(
        b"".join(part + mark for part, mark in zip(name.split(b"-"), (*marks, b""), strict=True))
        for name in names
        for marks in product((b"-", b"_"), repeat=name.count(b"-"))
    )


IDENTITY_FIELDS: Final = (
    # The gateway's own, and what they are easily taken for.
    spellings(b"x-user-id", b"x-user-role", b"x-user-roles", b"x-user-scope", b"x-user-scopes")
    | spellings(b"x-user", b"x-user-name", b"x-user-email", b"x-user-groups")
    # Kong's.
    | spellings(b"x-authenticated-user", b"x-authenticated-userid", b"x-authenticated-groups")
    | spellings(b"x-authenticated-scope", b"x-consumer-id", b"x-consumer-username")
    | spellings(b"x-consumer-custom-id", b"x-consumer-groups", b"x-credential-identifier")
    # oauth2-proxy's.
    | spellings(b"x-forwarded-user", b"x-forwarded-email", b"x-forwarded-groups")
    | spellings(b"x-forwarded-preferred-username", b"x-forwarded-access-token")
    | spellings(b"x-auth-request-user", b"x-auth-request-email", b"x-auth-request-groups")
    | spellings(b"x-auth-request-preferred-username", b"x-auth-request-access-token")
    # Authelia's, and what Apache and Grafana call the same.
    | spellings(b"remote-user", b"remote-name", b"remote-email", b"remote-groups")
    | spellings(b"x-remote-user", b"x-webauth-user")
    # Envoy's: a client certificate that somebody in front has verified.
    | spellings(b"x-forwarded-client-cert")
)
"""Request fields by which services are commonly told who a user is, in every spelling. A service
that believes one of them believes the gateway, so it must never come from a client."""
