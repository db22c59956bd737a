"""Which origins may read a response in a browser: CORS, as the Fetch standard has it.

A browser asks before it sends what a form could not (a preflight), and shows a page the response
only if the response says so. Both are for the browser to enforce: whoever is none reads everything,
so this protects users, not services. The gateway answers preflights and adds the fields:

- A preflight from an allowed origin gets all that is allowed, and the browser compares; what is
  asked for is not even read. Envoy, Traefik, Kong and ingress-nginx do the same, and only so can
  the browser's console name the method or header that is missing. To judge here as well could only
  add mistakes, as with a list that a proxy has cut in pieces (github.com/rs/cors/issues/184).
- A preflight from another origin is refused with 403, as the standard encourages: that is counted,
  and logged. The service does not see it; by default Envoy passes it on, and is surprised by
  services that say yes (github.com/envoyproxy/envoy/issues/14233).
- Any other request passes; the response has the fields only for an allowed origin. A form could
  have sent it too, so services must stand it anyhow.

What a service says about CORS itself is taken away (``CORS_FIELDS``): a response with two answers
is refused by browsers, and a service that allows ``*`` must not widen what the route allows.

Not here: Private Network Access (``Access-Control-Request-Private-Network``), which Chrome has
given up in favour of asking the user; and WebSockets, to which CORS does not apply: their services
have to look at ``Origin`` (RFC 6455 section 10.2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from siger_gateway.config.cors_rules import cors_problem
from siger_gateway.config.policies import CorsConfig
from siger_gateway.errors import GatewayError
from siger_gateway.filters.filter import Call, Filter, Reply, Verdict
from siger_gateway.filters.headers import VARY
from siger_gateway.http.headers import Header, find_all
from siger_gateway.http.message import Request

CORS_FIELDS: Final = (  # as text, for they become part of a configuration of edits
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-expose-headers",
    "access-control-max-age",
    "access-control-allow-private-network",
)
"""Fields of a service's response that end here when its route has this filter."""

ALLOW_ORIGIN: Final = b"access-control-allow-origin"
VARY_ORIGIN: Final = (VARY, b"Origin")
VARY_PREFLIGHT: Final = (
    VARY,
    b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
)
"""Nobody should store an answer to OPTIONS (RFC 9110 section 9.3.7); some caches can be made to."""

_LABEL_CHARACTERS: Final = b"abcdefghijklmnopqrstuvwxyz0123456789-_."
"""Those of labels, and the dots between them. Nothing that could end a host is among them."""


def cors_filter(rules: CorsConfig) -> Filter:
    """Answers preflights, and adds the fields to all other responses.

    It belongs before every filter that may refuse: preflights bring no credentials, and a page may
    only read an error that has the fields too.

    :raises ValueError: ``rules`` have a ``cors_problem``.
    """
    problem = cors_problem(rules)
    if problem:
        raise ValueError(problem)
    if rules.origins == ("*",):
        return _for_everybody(rules)
    return _for_some(rules)


def _for_everybody(rules: CorsConfig) -> Filter:
    """The same for each request, so also for one without ``Origin``: a cache may give its answer
    to one that has it (Fetch: "CORS protocol and HTTP caches")."""
    allow = (ALLOW_ORIGIN, b"*")
    actual = [allow, *_expose(rules)]
    preflight = [allow, *_preflight_fields(rules)]

    def cors(call: Call) -> Verdict:
        request = call.request
        if request.method == b"OPTIONS" and _is_preflight(request):
            return Reply(204, [*preflight])
        call.to_client += actual
        return None

    return cors


def _for_some(rules: CorsConfig) -> Filter:
    credentials = [(b"access-control-allow-credentials", b"true")] if rules.credentials else []
    actual = [*credentials, *_expose(rules), VARY_ORIGIN]
    preflight = [*credentials, *_preflight_fields(rules)]
    exact = {
        origin.encode(): [(ALLOW_ORIGIN, origin.encode()), *actual]
        for origin in rules.origins
        if "*" not in origin
    }
    matches = _compile_patterns(rules.origins)

    def cors(call: Call) -> Verdict:
        request = call.request
        origin = request.fields.get(b"origin")
        if origin is None:
            call.to_client.append(VARY_ORIGIN)
            return None
        fields = exact.get(origin)
        if fields is None and matches(origin):
            fields = [(ALLOW_ORIGIN, origin), *actual]
        if fields is not None and not _is_single(request):
            fields = None
        if request.method == b"OPTIONS" and _is_preflight(request):
            if fields is not None:
                return Reply(204, [fields[0], *preflight])
            call.to_client.append(VARY_PREFLIGHT)
            return GatewayError("origin_denied")
        if fields is not None:
            call.to_client += fields
        else:
            call.to_client.append(VARY_ORIGIN)
        return None

    return cors


def _is_preflight(request: Request) -> bool:
    """Of a request with OPTIONS (Fetch: "CORS-preflight request")."""
    return b"access-control-request-method" in request.fields and b"origin" in request.fields


def _is_single(request: Request) -> bool:
    """Whether ``Origin`` comes once: browsers send no more, and it cannot be told which is true."""
    headers = request.headers
    return len(headers) == len(request.fields) or len(find_all(headers, b"origin")) == 1


def _compile_patterns(origins: tuple[str, ...]) -> Callable[[bytes], bool]:
    """Whether an origin, as a client sends it, is one of those with ``*.``."""
    patterns = [
        (scheme.encode(), b"." + rest.encode())
        for scheme, star, rest in (origin.partition("*.") for origin in origins)
        if star
    ]
    ends = tuple(end for _, end in patterns)

    def matches(origin: bytes) -> bool:
        return origin.endswith(ends) and any(
            origin.startswith(scheme)
            and origin.endswith(end)
            and _are_labels(origin[len(scheme) : -len(end)])
            for scheme, end in patterns
        )

    return matches


def _are_labels(middle: bytes) -> bool:
    """Whether it is one label or more, with dots between them. No regular expression: clients write
    this, and one of 50 patterns takes 0.2 ms to refuse 326 bytes of dots and letters."""
    return not middle.translate(None, _LABEL_CHARACTERS) and b".." not in b".%b." % middle


def _list_field(name: bytes, members: tuple[str, ...]) -> list[Header]:
    """One field, or none for an empty list."""
    return [(name, ", ".join(members).encode())] if members else []


def _expose(rules: CorsConfig) -> list[Header]:
    return _list_field(b"access-control-expose-headers", rules.expose)


def _preflight_fields(rules: CorsConfig) -> list[Header]:
    """All but those about the origin."""
    return [
        *_list_field(b"access-control-allow-methods", rules.methods),
        *_list_field(b"access-control-allow-headers", rules.headers),
        (b"access-control-max-age", b"%d" % rules.max_age),
        VARY_PREFLIGHT,
    ]
