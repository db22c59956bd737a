"""What a route may do, checked: exactly one action, and nothing beside it that would do nothing.

Pure functions of one route. They yield the key below the route, and the reason; ``check`` adds
where that is in the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from siger_gateway.config.names import BadText, parse_authority
from siger_gateway.config.schema import (
    DirectResponseConfig,
    HeaderEdits,
    HeadersConfig,
    RedirectConfig,
    RetryConfig,
    RouteConfig,
)

ACTIONS: Final = ("service", "split", "redirect", "direct_response")

BODILESS: Final = frozenset({204, 205, 304})
"""Statuses that have no body (RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5)."""

FRAMING: Final = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding"}
    | {"upgrade", "http2-settings", "content-length", "proxy-authenticate"}
    | {"proxy-authentication-info", "proxy-authorization", "expect"}
)
"""Fields of one connection, and those that tell where a message ends: what the gateway itself
writes or takes away. An edit could only break them (RFC 9112 section 6.3)."""

OWNED: Final = frozenset({"via", "x-request-id"})
"""Fields that the gateway sets in both messages."""

OWNED_IN_REQUESTS: Final = OWNED | {
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-real-ip",
    "x-user-id",
    "x-user-role",
}
"""Fields by which a service learns from the gateway who asks."""


def actions_of(route: RouteConfig) -> list[str]:
    """Which of ``ACTIONS`` the route has; an action that says nothing counts as none."""
    present = (
        route.service,
        route.split,
        route.redirect != RedirectConfig(),
        route.direct_response != DirectResponseConfig(),
    )
    return [name for name, has in zip(ACTIONS, present, strict=True) if has]


def action_problems(route: RouteConfig) -> Iterator[tuple[str, str]]:
    """What is wrong with what the route does; its match, and each value by itself, are good."""
    actions = actions_of(route)
    if len(actions) != 1:
        listed = " and ".join(actions) if actions else "none"
        yield "", f"needs exactly one of {', '.join(ACTIONS)}; it has {listed}"
        return
    if actions == ["redirect"]:
        yield from _redirect_problems(route)
    elif actions == ["direct_response"]:
        yield from _direct_response_problems(route.direct_response)
    elif actions == ["split"]:
        yield from _split_problems(route)
    if actions[0] in ("redirect", "direct_response"):
        for key in ("strip_prefix", "rewrite"):
            if getattr(route, key):
                yield key, f"a {actions[0]} forwards no path"
        if route.retry != RetryConfig():
            yield "retry", f"a {actions[0]} needs no second try"
        if route.headers.request != HeaderEdits():
            yield "headers.request", f"a {actions[0]} sends no request"
    yield from _rewrite_problems(route)
    yield from header_problems(route.headers)


def _split_problems(route: RouteConfig) -> Iterator[tuple[str, str]]:
    names: set[str] = set()
    for index, one in enumerate(route.split):
        if one.service in names:
            yield f"split[{index}].service", f'"{one.service}" stands in it twice'
        names.add(one.service)
    if not any(one.weight for one in route.split):
        yield "split", "every weight is 0"


def _rewrite_problems(route: RouteConfig) -> Iterator[tuple[str, str]]:
    if not route.rewrite:
        return
    if route.strip_prefix:
        yield "rewrite", '"rewrite" and "strip_prefix" exclude each other'
    elif route.match.path_prefix == "/" == route.rewrite:
        yield "rewrite", '"/" in place of "/" changes nothing; remove the key'
    yield from _name_problems("rewrite", route.rewrite, route.match.path)


def _name_problems(key: str, template: str, path: str) -> Iterator[tuple[str, str]]:
    for name in re.findall(r"\{[^}]*\}", template):
        if name not in path.split("/"):
            yield key, f"match.path has no {name}"


def _redirect_problems(route: RouteConfig) -> Iterator[tuple[str, str]]:
    redirect = route.redirect
    moves = redirect.scheme != "keep" or redirect.host or redirect.port
    if not moves and not redirect.path and not redirect.prefix:
        reason = "it leads to where it comes from: needs scheme, host, port, path or prefix"
        yield "redirect", reason
    if redirect.path and redirect.prefix:
        yield "redirect", '"path" and "prefix" exclude each other'
    elif redirect.prefix and not route.match.path_prefix:
        yield "redirect.prefix", "there is no match.path_prefix in whose place it could stand"
    for key, old in (("path", route.match.path), ("prefix", route.match.path_prefix)):
        if not moves and old and getattr(redirect, key) == old:
            yield f"redirect.{key}", "it leads to where it comes from"
    yield from _name_problems("redirect.path", redirect.path, route.match.path)


def _direct_response_problems(answer: DirectResponseConfig) -> Iterator[tuple[str, str]]:
    if answer.status < 200:
        yield "direct_response.status", f"must be between 200 and 599, found {answer.status}"
    elif answer.body and answer.status in BODILESS:
        yield "direct_response.body", f"a response with status {answer.status} has none"


def header_problems(headers: HeadersConfig) -> Iterator[tuple[str, str]]:
    """What an edit must not touch, and edits that contradict each other."""
    for message, edits, owned in (
        ("request", headers.request, OWNED_IN_REQUESTS),
        ("response", headers.response, OWNED),
    ):
        for kind in ("set", "add", "remove"):
            for index, name in enumerate(getattr(edits, kind)):
                at = f"[{index}]" if kind == "remove" else f".{name}"
                key = f"headers.{message}.{kind}{at}"
                if reason := _refusal(name, owned):
                    yield key, reason
                elif kind != "set" and (message, name) == ("request", "host"):
                    yield key, "a request has exactly one Host; it can be set"
                elif kind == "remove" and (name in edits.set or name in edits.add):
                    yield key, f"{name} is set or added as well; setting replaces it already"
        if (host := edits.set.get("host")) is not None and message == "request":
            try:
                parse_authority(host)
            except BadText as error:
                yield "headers.request.set.host", f"expected a host, or host:port: {error.why}"


def _refusal(name: str, owned: frozenset[str]) -> str:
    # A service that reads fields as CGI variables cannot tell x_user-id from x-user-id.
    name = name.replace("_", "-")
    if name in FRAMING:
        return "this field is about the connection; the gateway writes it itself"
    if name in owned:
        return "the gateway itself says this"
    return ""
