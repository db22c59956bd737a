"""Checks of who gets in: means that do not fit together, and policies that nobody could pass.

What protects must not be switched off by a mistake. So a policy that asks for credentials where
there is no way to show any is an error, and not a route that is open or closed to all; and so is a
secret that can be guessed, as soon as anything relies on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from siger_gateway.config.actions import FRAMING, OWNED_IN_REQUESTS
from siger_gateway.config.cors_rules import cors_problem
from siger_gateway.config.policies import AuthConfig, PolicyConfig, RateLimitConfig
from siger_gateway.config.problem import Mark, Report
from siger_gateway.config.schema import AdminConfig, Config
from siger_gateway.config.signing import misfit, weak_secret
from siger_gateway.config.units import format_duration

NO_MEANS: Final = "nobody could show who it is: auth has no jwt, api_keys, mtls or forward"

NOT_SHOWN: Final = FRAMING | {
    "host",
    *(f"x-forwarded-{part}" for part in ("method", "proto", "host", "uri", "for")),
}
"""Fields of a request that the service of ``auth.forward`` cannot be shown: see ``NEVER_SHOWN`` in
``filters.forward_auth``."""
NEVER_KEYS: Final = FRAMING | OWNED_IN_REQUESTS | {"host", "cookie", "origin"}
"""Fields that cannot bring an API key: it ends at the gateway, and the field with it."""

Where = Callable[[str], Mark]


def check_policies(config: Config, report: Report, where: Where) -> None:
    """All of them, and the means that they rely on."""

    def add(key: str, reason: str) -> None:
        report.add(where(key), key, reason)

    policies: dict[str, PolicyConfig] = {"jobs": config.jobs, "admin": config.admin}
    policies.update({f"routes[{index}]": one for index, one in enumerate(config.routes)})
    for key, policy in policies.items():
        if not report.is_good_below("auth"):
            break
        for part, reason in policy_problems(policy, config):
            at = f"{key}.{part}"
            if report.is_good_below(at):
                add(at, reason)
    if report.is_good("cors") and config.cors.origins and (reason := cors_problem(config.cors)):
        part, _, why = reason.partition(": ")
        add(f"cors.{part}", why)
    if report.is_good_below("admin") and (reason := admin_problem(config)):
        add("admin.port", reason)
    if not report.is_good_below("auth"):
        return
    needed = config.auth.default != "none" or any(
        one.auth not in ("", "none") for one in policies.values()
    )
    if config.auth.default != "none" and not config.auth.enabled:
        add("auth.default", NO_MEANS)
    for part, reason in jwt_problems(config.auth):
        if needed:
            add(f"auth.jwt{part}", reason)
        else:
            report.warn(where(f"auth.jwt{part}"), f"auth.jwt{part}", reason)
    for part, reason in _other_means(config):
        add(f"auth.{part}", reason)
    url = urlsplit(config.auth.jwt.jwks_url)
    if url.scheme == "http" and not is_loopback(url.hostname or ""):
        said = "without TLS, whoever stands between can let anybody in"
        report.warn(where("auth.jwt.jwks_url"), "auth.jwt.jwks_url", said)


def policy_problems(policy: PolicyConfig, config: Config) -> Iterator[tuple[str, str]]:
    """The key below the policy, and the reason; each value by itself is good."""
    auth = policy.auth or config.auth.default
    if policy.auth not in ("", "none") and not config.auth.enabled:
        yield "auth", NO_MEANS
    for key in ("roles", "scopes"):
        if getattr(policy, key) and auth != "required":
            yield key, f'needs "auth: required"; it is {auth}'
    names = [limit_name(limit) for limit in policy.rate_limit]
    keys = [(f"rate_limit[{index}]", one.key) for index, one in enumerate(policy.rate_limit)]
    for index, limit in enumerate(policy.rate_limit):
        if names[index] in names[:index]:
            yield f"rate_limit[{index}]", f'two limits are called "{names[index]}"; name them'
        if 0 < (limit.burst or limit.requests) < limit.cost:
            yield f"rate_limit[{index}].cost", "more than the burst: no request would pass"
    for at, key in (*keys, ("concurrency", policy.concurrency.key)):
        if key in ("user", "api_key") and auth == "none":
            yield f"{at}.key", f"{key}: nobody has one, for there is no auth here"
    if policy.cors.origins and (reason := cors_problem(policy.cors)):
        part, _, why = reason.partition(": ")
        yield f"cors.{part}", why
    if policy.limits.header_bytes > config.limits.header_bytes:
        yield "limits.header_bytes", "more than limits.header_bytes of the file lets pass"


def limit_name(limit: RateLimitConfig) -> str:
    """What clients know the limit by."""
    return limit.name or format_duration(limit.per)


def jwt_problems(auth: AuthConfig) -> Iterator[tuple[str, str]]:
    """The key below ``auth.jwt``, with its dot, and the reason."""
    jwt = auth.jwt
    if jwt.secret and jwt.jwks_url:
        yield ".jwks_url", '"jwks_url" and "secret" exclude each other'
    elif not jwt.enabled:
        if jwt.algorithms or jwt.issuer or jwt.audience:
            yield "", 'needs "secret" or "jwks_url"; without, no token is accepted'
    elif reason := misfit(jwt.accepted, "secret" if jwt.secret else "keys"):
        yield ".algorithms", reason
    elif jwt.secret and (reason := weak_secret(jwt.secret, jwt.accepted)):
        yield ".secret", f"the secret can be guessed: {reason}"


def _other_means(config: Config) -> Iterator[tuple[str, str]]:
    auth = config.auth
    if auth.mtls and not (config.tls.cert and config.tls.client_ca):
        yield "mtls", "needs tls.cert and tls.client_ca"
    name = auth.api_key_header
    if name.replace("_", "-") in NEVER_KEYS:
        yield "api_key_header", f"{name} says something else, which a service would miss"
    elif name == "authorization" and auth.jwt.enabled:
        yield "api_key_header", "tokens come in authorization"
    if auth.forward.service and auth.forward.service not in config.services:
        yield "forward.service", f'there is no service "{auth.forward.service}"'
    for index, shown in enumerate(auth.forward.fields):
        if shown.replace("_", "-") in NOT_SHOWN:
            said = "the gateway itself says this to the service, or it frames the question"
            yield f"forward.fields[{index}]", said
    if not auth.forward.service and auth.forward != type(auth.forward)():
        yield "forward", 'has no effect without "service"'


def admin_problem(config: Config) -> str:
    """Why the admin listener must not be where it is; "" when it may."""
    admin: AdminConfig = config.admin
    host = admin.port.rpartition(":")[0].strip("[]")
    if not admin.port or is_loopback(host):
        return ""
    if (admin.auth or config.auth.default) == "required":
        return ""
    return "beyond this machine only with admin.auth: required"


def is_loopback(host: str) -> bool:
    """Whether what listens there is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
