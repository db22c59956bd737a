"""Who gets in, and how often: what routes, the jobs API and the admin listener have in common.

``AuthConfig`` says, once, by which means a client can show who it is. ``PolicyConfig`` says, for
each route, who is let through; what is left empty costs nothing there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from siger_gateway.config.kinds import (
    MOMENT,
    Duration,
    HeaderName,
    HeaderValue,
    LimitKey,
    Network,
    PathPrefix,
    Size,
    Token,
    Url,
    Word,
    doc,
)

Mode = Literal["none", "optional", "required"]
"""Whether a route wants to know who asks. ``optional``: none are let through, bad ones refused."""

Algorithm = Literal[
    "HS256",
    "HS384",
    "HS512",
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
]


@dataclass(frozen=True, slots=True)
class JwtConfig:
    """JSON Web Tokens, in ``Authorization: Bearer``: signed with a secret, or with one of the keys
    that the issuer publishes."""

    secret: str = doc("shared with the issuer; ${NAME} or file:/path", "", secret=True)
    jwks_url: Url = doc("or where the issuer publishes its keys (RFC 7517)", "")
    algorithms: tuple[Algorithm, ...] = doc(
        "that are accepted; empty: HS256 with a secret, RS256 and ES256 with keys", ()
    )
    issuer: str = doc("what `iss` has to be; empty: anything", "")
    audience: str = doc("what `aud` has to be, or to hold; empty: anything", "")
    leeway: Duration = doc("by which the issuer's clock may differ", 30.0, least=0.0, most=600.0)
    refresh: Duration = doc("between two fetches of the keys", 300.0, least=10.0)
    lifetime: Duration = doc(
        "of what `siger-gateway token` makes", 24 * 3600.0, least=1.0, most=366 * 86400.0
    )

    @property
    def accepted(self) -> tuple[str, ...]:
        """The algorithms, those of the default too."""
        return self.algorithms or (("HS256",) if self.secret else ("RS256", "ES256"))

    @property
    def enabled(self) -> bool:
        return bool(self.secret or self.jwks_url)


@dataclass(frozen=True, slots=True)
class ForwardAuthConfig:
    """A service that is asked who a request comes from, as with nginx' auth_request."""

    service: str = doc("a key of `services`; empty: nobody is asked", "")
    path: PathPrefix = doc("what is asked for, with GET", "/")
    fields: tuple[HeaderName, ...] = doc(
        "of the request, that the service is shown; they are part of what is remembered",
        ("authorization", "cookie", "x-api-key"),
    )
    user_field: HeaderName = doc(
        'of its answer, with the user; "" = it names none', "x-user-id", empty=True
    )
    roles_field: HeaderName = doc("of its answer, with the roles", "x-user-role", empty=True)
    cache: Duration = doc("for which an answer holds; 0s: asks each time", 10.0, least=0.0)
    timeout: Duration = doc("for an answer", 5.0, least=MOMENT)


@dataclass(frozen=True, slots=True)
class AuthConfig:
    """By which means clients show who they are."""

    default: Mode = doc("`auth` of routes that do not say it, also of exposed services", "none")
    jwt: JwtConfig = doc("tokens in `Authorization: Bearer`", JwtConfig)
    api_keys: str = doc("file with the hashes of API keys; empty: none", "")
    api_key_header: HeaderName = doc("the field in which an API key comes", "x-api-key")
    mtls: bool = doc(
        "client certificates (tls.client_ca) name users: CN is the user, O are the roles", False
    )
    forward: ForwardAuthConfig = doc("or a service decides", ForwardAuthConfig)

    @property
    def enabled(self) -> bool:
        """Whether there is a way at all."""
        return bool(self.jwt.enabled or self.api_keys or self.mtls or self.forward.service)


@dataclass(frozen=True, slots=True)
class RateLimitConfig:
    """How often one client may come: a token bucket (GCRA)."""

    requests: int = doc("that each client has in `per`", least=1, most=10**9)
    per: Duration = doc("the time for them", 1.0, least=MOMENT)
    burst: int = doc("of them at once; 0: all", 0, least=0, most=10**9)
    key: LimitKey = doc("who a client is: client_ip, user, api_key or header:NAME", "client_ip")
    cost: int = doc("requests that one of this route counts as", 1, least=1, most=10**6)
    name: Token = doc("in `RateLimit`; empty: as `per`", "")


@dataclass(frozen=True, slots=True)
class ConcurrencyConfig:
    """How many requests of one client may be under way at the same time."""

    requests: int = doc("0: any number", 0, least=0)
    key: LimitKey = doc("who a client is: client_ip, user, api_key or header:NAME", "client_ip")


@dataclass(frozen=True, slots=True)
class CorsConfig:
    """What pages of other origins may do; ``cors_rules`` says what cannot be meant so."""

    origins: tuple[str, ...] = doc(
        "https://app.example.com, https://*.example.com, or * alone; empty: none", ()
    )
    methods: tuple[str, ...] = doc("beside GET, HEAD and POST", ())
    headers: tuple[str, ...] = doc("of a request; Content-Type is needed for JSON", ())
    expose: tuple[str, ...] = doc("of a response, that pages may see", ())
    credentials: bool = doc("cookies and the like may come along; not with *", False)
    max_age: Duration = doc("for which a browser need not ask again", 600.0, least=0.0)


@dataclass(frozen=True, slots=True)
class SecurityHeadersConfig:
    """Response fields that tell browsers to be careful; a service's own always win. Values are
    those of OWASP's HTTP Headers cheat sheet where they suit any service."""

    enabled: bool = doc("`security_headers: true` is short for it", False)
    # A year is the least that browsers take into their preloaded lists. Sent over TLS alone.
    strict_transport_security: HeaderValue = doc("over https", "max-age=31536000", empty=True)
    x_content_type_options: HeaderValue = doc('"" = not sent', "nosniff", empty=True)
    x_frame_options: HeaderValue = doc('"" = not sent', "DENY", empty=True)
    referrer_policy: HeaderValue = doc('"" = not sent', "no-referrer", empty=True)
    content_security_policy: HeaderValue = doc("which scripts a service loads", "")
    permissions_policy: HeaderValue = doc("which devices its pages use", "")


@dataclass(frozen=True, slots=True)
class RouteLimitsConfig:
    """Sizes for one route, in place of those of ``limits``."""

    body: Size = doc("request body; 0: limits.body", 0, least=0)
    header_bytes: Size = doc("of the header fields; 0: limits.header_bytes", 0, least=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyConfig:
    """Who is let through, and how often."""

    auth: Literal["", "none", "optional", "required"] = doc(
        "credentials: empty: auth.default; optional: bad ones are refused", ""
    )
    roles: tuple[Word, ...] = doc("the user needs one of them", ())
    scopes: tuple[Word, ...] = doc("the user needs all of them", ())
    rate_limit: tuple[RateLimitConfig, ...] = doc(
        "{requests, per, burst, key, cost, name}, or a list of them", (), alone=True
    )
    concurrency: ConcurrencyConfig = doc("requests at the same time", ConcurrencyConfig)
    cors: CorsConfig = doc(
        "pages of other origins; without origins: `cors` of the file", CorsConfig
    )
    allow: tuple[Network, ...] = doc("only these addresses; empty: all", ())
    deny: tuple[Network, ...] = doc("not these addresses", ())
    limits: RouteLimitsConfig = doc("sizes", RouteLimitsConfig)
    security_headers: SecurityHeadersConfig = doc("for browsers", SecurityHeadersConfig)

    @property
    def asks_who(self) -> bool:
        """Whether credentials are looked at, once ``auth`` has been filled in."""
        return self.auth in ("optional", "required")
