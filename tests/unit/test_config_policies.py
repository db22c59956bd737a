"""Who gets in, as configured: what is understood, and what could only let the wrong ones in."""

from __future__ import annotations

from pathlib import Path

import pytest

from siger_gateway.config.load import ConfigError, Problem, loads
from siger_gateway.config.policies import (
    ConcurrencyConfig,
    RateLimitConfig,
    RouteLimitsConfig,
    SecurityHeadersConfig,
)
from siger_gateway.config.schema import Config, RouteConfig
from siger_gateway.filters.forward_auth import NEVER_SHOWN

SECRET = "kq3Zr8vN1xYw5tBf7mLd0pHs9uCg2aEj4oRi6nTzXyV"
JWT = f"auth: {{jwt: {{secret: {SECRET}}}}}\n"
ROUTE = (
    "services: {s: {endpoints: ['a:1']}}\nroutes: [{name: r, service: s, match: {path: /a}, %s}]\n"
)


def config_of(text: str) -> Config:
    return loads(text, "c.yaml", {}).config


def route_of(policy: str, before: str = JWT) -> RouteConfig:
    return config_of(before + ROUTE % policy).routes[0]


def problem_of(text: str) -> Problem:
    with pytest.raises(ConfigError) as caught:
        config_of(text)
    (problem,) = caught.value.problems
    return problem


def test_one_rate_limit_needs_no_list() -> None:
    limit = RateLimitConfig(requests=100, per=1.0, burst=200, key="user")
    text = "{requests: 100, per: 1s, burst: 200, key: user}"
    assert route_of(f"auth: required, rate_limit: {text}").rate_limit == (limit,)
    assert route_of(f"auth: required, rate_limit: [{text}]").rate_limit == (limit,)


def test_policies_are_read() -> None:
    route = route_of(
        "auth: required, roles: [admin], scopes: [jobs.write], allow: [10.0.0.0/8],"
        " concurrency: {requests: 5, key: 'header:X-Tenant'}, security_headers: true,"
        " limits: {body: 1KiB}"
    )
    assert (route.auth, route.roles, route.scopes) == ("required", ("admin",), ("jobs.write",))
    assert route.concurrency == ConcurrencyConfig(5, "header:x-tenant")
    assert route.security_headers == SecurityHeadersConfig(enabled=True)
    assert route.limits == RouteLimitsConfig(body=1024)


def test_algorithms_follow_from_where_the_keys_come_from() -> None:
    assert config_of(JWT).auth.jwt.accepted == ("HS256",)
    keys = config_of("auth: {jwt: {jwks_url: 'https://id.test/keys'}}").auth.jwt
    assert keys.accepted == ("RS256", "ES256")


def test_a_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    assert config_of(f"auth: {{jwt: {{secret: 'file:{file}'}}}}").auth.jwt.secret == SECRET


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "No such file"),
        (b"", "holds nothing"),
        (b"\n", "holds nothing"),
        (b"a\nb", "more than one line"),
        (b"\xff", "not UTF-8"),
        (b"x" * 70_000, "more than one line"),
    ],
)
def test_a_file_that_holds_no_secret_is_named_and_not_shown(
    tmp_path: Path, content: bytes | None, why: str
) -> None:
    file = tmp_path / "s"
    if content is not None:
        file.write_bytes(content)
    problem = problem_of(f"auth: {{jwt: {{secret: 'file:{file}'}}}}")
    assert problem.key == "auth.jwt.secret"
    assert why in problem.reason


FORWARD = (
    "services: {a: {endpoints: ['a:1']}}\nauth: {forward: {service: a, fields: [%s, cookie]}}\n"
)


def test_no_field_that_cannot_be_shown_gets_past_the_check() -> None:
    for name in NEVER_SHOWN:
        assert problem_of(FORWARD % name.decode()).key == "auth.forward.fields[0]"


# fmt: off
# ruff: noqa: E501 - a table reads best with a row to a line
BAD = [
    # credentials
    ("auth without means", ROUTE % "auth: required", "routes[0].auth", "nobody could show who it is"),
    ("optional without means", ROUTE % "auth: optional", "routes[0].auth", "nobody could show"),
    ("default without means", "auth: {default: required}", "auth.default", "nobody could show"),
    ("jobs without means", "jobs: {auth: required}", "jobs.auth", "nobody could show who it is"),
    ("missing secret", "auth: {default: required, jwt: {secret: ''}}", "auth.default", "nobody could"),
    ("weak secret", "auth: {default: required, jwt: {secret: changeme}}",
     "auth.jwt.secret", "the secret can be guessed: it is a placeholder"),
    ("short secret", "auth: {jwt: {secret: q7Rz9}}\njobs: {auth: optional}",
     "auth.jwt.secret", "it is 5 bytes long; HS256 needs 32"),
    ("issuer without keys", "auth: {api_keys: k.yaml, default: required, jwt: {issuer: a}}",
     "auth.jwt", 'needs "secret" or "jwks_url"'),
    ("secret and keys",
     f"auth: {{default: required, jwt: {{secret: {SECRET}, jwks_url: 'https://a.test/k'}}}}",
     "auth.jwt.jwks_url", "exclude each other"),
    ("algorithm confusion", f"auth: {{default: required, jwt: {{secret: {SECRET}, algorithms: [RS256]}}}}",
     "auth.jwt.algorithms", "RS256 needs public keys"),
    ("algorithm none", f"auth: {{jwt: {{secret: {SECRET}, algorithms: [none]}}}}",
     "auth.jwt.algorithms[0]", "expected one of HS256"),
    ("url", "auth: {jwt: {jwks_url: 'id.test/keys'}}", "auth.jwt.jwks_url", "begins with https://"),
    ("url with a password", "auth: {jwt: {jwks_url: 'https://a:b@id.test/'}}",
     "auth.jwt.jwks_url", "expected a URL"),
    ("certificates without authority", "auth: {mtls: true}", "auth.mtls", "needs tls.cert"),
    ("unknown service", "auth: {forward: {service: x}}", "auth.forward.service", "no service \"x\""),
    ("forward without service", "auth: {forward: {cache: 1s}}", "auth.forward", "no effect without"),
    ("a field that frames", FORWARD % "content-length", "auth.forward.fields[0]", "frames the question"),
    ("a field of the gateway", FORWARD % "x-forwarded_for", "auth.forward.fields[0]", "itself says this"),
    ("mode", JWT + ROUTE % "auth: maybe", "routes[0].auth", "expected one of"),
    # who may
    ("roles for all", JWT + ROUTE % "roles: [a]", "routes[0].roles", 'needs "auth: required"'),
    ("scopes for some", JWT + ROUTE % "auth: optional, scopes: [a]", "routes[0].scopes", "it is optional"),
    ("role with a space", JWT + ROUTE % "auth: required, roles: ['a b']", "routes[0].roles[0]", "a word"),
    ("network", ROUTE % "allow: [10.0.0.0/33]", "routes[0].allow[0]", "expected a network"),
    # how often
    ("no requests", ROUTE % "rate_limit: {per: 1s}", "routes[0].rate_limit[0].requests", "required"),
    ("zero requests", ROUTE % "rate_limit: {requests: 0}", "routes[0].rate_limit[0].requests", "between 1"),
    ("two names", ROUTE % "rate_limit: [{requests: 1}, {requests: 2, key: 'header:a'}]",
     "routes[0].rate_limit[1]", 'two limits are called "1s"'),
    ("cost above the burst", ROUTE % "rate_limit: {requests: 5, cost: 6}",
     "routes[0].rate_limit[0].cost", "no request would pass"),
    ("limit by nobody", ROUTE % "rate_limit: {requests: 5, key: user}",
     "routes[0].rate_limit[0].key", "there is no auth here"),
    ("concurrency by nobody", ROUTE % "concurrency: {requests: 5, key: api_key}",
     "routes[0].concurrency.key", "there is no auth here"),
    ("limit by a cookie", ROUTE % "rate_limit: {requests: 5, key: 'cookie:a'}",
     "routes[0].rate_limit[0].key", "client_ip, user, api_key or header:NAME"),
    ("large header", ROUTE % "limits: {header_bytes: 64KiB}",
     "routes[0].limits.header_bytes", "more than limits.header_bytes"),
    # pages of other origins
    ("credentials for all", ROUTE % "cors: {origins: ['*'], credentials: true}",
     "routes[0].cors.origins", '"*" does not go with credentials'),
    ("origin with a path", "cors: {origins: ['https://a.test/']}", "cors.origins", "https://a.test"),
    # operators
    ("open admin", "admin: {port: ':9901'}", "admin.port", "only with admin.auth: required"),
    ("open admin by name", "admin: {port: 'gw.test:9901'}", "admin.port", "only with admin.auth"),
    ("half open admin", JWT + "admin: {port: '0.0.0.0:9901', auth: optional}", "admin.port", "required"),
]
# fmt: on


@pytest.mark.parametrize(
    ("text", "key", "reason"), [row[1:] for row in BAD], ids=[row[0] for row in BAD]
)
def test_one_mistake_is_one_problem(text: str, key: str, reason: str) -> None:
    problem = problem_of(text)
    assert (problem.key, reason in problem.reason) == (key, True), problem


@pytest.mark.parametrize(
    "admin",
    [
        "{port: ''}",
        "{port: 'localhost:1'}",
        "{port: '[::1]:1'}",
        "{port: '127.0.0.2:1'}",
        "{port: ':1', auth: required, roles: [admin]}",
    ],
)
def test_admin_may_be_on_this_machine_or_ask_who_it_is(admin: str) -> None:
    config_of(f"{JWT}admin: {admin}")


def test_a_weak_secret_that_nothing_relies_on_is_a_warning() -> None:
    (warning,) = loads("auth: {jwt: {secret: changeme}}", "c.yaml", {}).warnings
    assert warning.key == "auth.jwt.secret"


def test_keys_that_come_without_tls_are_a_warning() -> None:
    (warning,) = loads("auth: {jwt: {jwks_url: 'http://id.test/k'}}", "c.yaml", {}).warnings
    assert "let anybody in" in warning.reason
    text = "auth: {jwt: {jwks_url: 'http://127.0.0.1:8/k'}}"
    assert loads(text, "c.yaml", {}).warnings == ()


@pytest.mark.parametrize(
    "name",
    [
        *("Content-Length", "transfer_encoding", "Host", "Connection", "Cookie", "Origin"),
        *("X-User-ID", "x_user_role", "X-Request-ID", "X-Forwarded-For", "Authorization"),
    ],
)
def test_an_api_key_comes_in_a_field_of_its_own(name: str) -> None:
    auth = f"auth: {{jwt: {{secret: {SECRET}}}, api_keys: k, api_key_header: {name}}}\n"
    assert problem_of(auth).key == "auth.api_key_header"


@pytest.mark.parametrize("name", ["X-API-Key", "x_api_key", "Authorization"])
def test_without_tokens_an_api_key_may_come_in_authorization(name: str) -> None:
    assert config_of(f"auth: {{api_keys: k, api_key_header: {name}}}\n").auth.api_keys == "k"
