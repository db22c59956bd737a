"""Routes in words, for ``siger-gateway routes``."""

from __future__ import annotations

from typing import Any

from siger_gateway.config.actions import actions_of
from siger_gateway.config.schema import HeaderEdits, MatchConfig, RedirectConfig, RouteConfig
from siger_gateway.config.units import format_duration, format_size
from siger_gateway.routing.effective import EffectiveRoute


def describe(route: EffectiveRoute) -> dict[str, Any]:
    """One row; every value is a short text."""
    config = route.config
    proxied = config.service or config.split
    return {
        "name": config.name,
        "match": _match(config.match),
        "to": _action(config),
        "changes": "; ".join(_changes(config)) or "-",
        "policy": "; ".join(_policy(config)) or "-",
        "timeout": f"{config.timeout:g}s" if proxied else "-",
        "from": route.origin,
    }


def _match(match: MatchConfig) -> str:
    words = [",".join(match.methods)] if match.methods else []
    words.append(match.path or match.path_prefix.rstrip("/") + "/*")
    words += [f"host={match.host}"] if match.host else []
    words += [f"{name}={value}" for name, value in match.headers.items()]
    return " ".join(words)


def _action(config: RouteConfig) -> str:
    match actions_of(config):
        case ["service"]:
            return config.service
        case ["split"]:
            return " ".join(f"{one.service}:{one.weight}" for one in config.split)
        case ["redirect"]:
            return f"{config.redirect.status} {_location(config.redirect)}"
        case ["direct_response"]:
            return f"{config.direct_response.status} (fixed)"
        case _:
            return "(gateway)"


def _location(redirect: RedirectConfig) -> str:
    origin = ""
    if redirect.scheme != "keep" or redirect.host or redirect.port:
        scheme = "{scheme}" if redirect.scheme == "keep" else redirect.scheme
        port = f":{redirect.port}" if redirect.port else ""
        origin = f"{scheme}://{redirect.host or '{host}'}{port}"
    path = redirect.path or (redirect.prefix.rstrip("/") + "/*" if redirect.prefix else "{path}")
    return origin + path


def _changes(config: RouteConfig) -> list[str]:
    words = [f"strip {config.strip_prefix}"] if config.strip_prefix else []
    words += [f"rewrite {config.rewrite}"] if config.rewrite else []
    for message, edits in (
        ("request", config.headers.request),
        ("response", config.headers.response),
    ):
        words += [f"{message}: {_edits(edits)}"] if edits != HeaderEdits() else []
    return words


def _policy(config: RouteConfig) -> list[str]:
    words = [f"auth {config.auth}"] if config.auth not in ("", "none") else []
    words += [f"roles {','.join(config.roles)}"] if config.roles else []
    words += [f"scopes {','.join(config.scopes)}"] if config.scopes else []
    words += [
        f"{limit.requests} per {format_duration(limit.per)} by {limit.key}"
        for limit in config.rate_limit
    ]
    if config.concurrency.requests:
        words.append(f"{config.concurrency.requests} at a time by {config.concurrency.key}")
    words += [f"cors {','.join(config.cors.origins)}"] if config.cors.origins else []
    words += [f"allow {','.join(config.allow)}"] if config.allow else []
    words += [f"deny {','.join(config.deny)}"] if config.deny else []
    words += [f"body {format_size(config.limits.body)}"] if config.limits.body else []
    return words


def _edits(edits: HeaderEdits) -> str:
    kinds = (("set", edits.set), ("add", edits.add), ("remove", edits.remove))
    return ", ".join(f"{kind} {name}" for kind, names in kinds for name in names)
