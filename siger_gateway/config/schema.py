"""What a configuration may hold: one frozen class per YAML mapping, one field per key.

``load.py`` walks these classes to read and check a file, so a field here is all that a new key
takes: its type says how the value is parsed (``values.py`` holds one parser per ``Annotated``
word), its default what holds when the key is missing, ``doc`` what the default file says about it,
``least``, ``most`` and ``one_of`` which values make sense. Names and defaults are those of the
contract; a key that a later version will understand stands in ``PLANNED`` and is refused as
"not supported yet", because a setting that silently does nothing is worse than an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from siger_gateway.config.kinds import (
    MOMENT,
    Address,
    ConsulAddress,
    Duration,
    ExposedName,
    HashKey,
    HeaderName,
    HeaderValue,
    HostHeader,
    HostName,
    HostPattern,
    HostPort,
    ListenAddress,
    Method,
    NatsAddress,
    Network,
    PathPrefix,
    PathTemplate,
    Percent,
    RetryCondition,
    ServerName,
    ServiceName,
    Size,
    Text,
    Token,
    doc,
)
from siger_gateway.config.policies import AuthConfig, CorsConfig, PolicyConfig


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """One address of a service; in YAML also written as the bare string ``host:port``."""

    address: HostPort = doc("host:port of the instance")
    weight: int = doc("share of the traffic relative to the others", 1, least=1, most=1000)
    protocol: Literal["", "http", "https", "h2c", "h2"] = doc(
        "how this one is spoken to; empty: as its service is", ""
    )


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """Connections from this gateway to each endpoint of a service."""

    max_connections: int = doc("connections per endpoint, busy and idle", 256, least=1)
    # 1024 is Envoy's max_pending_requests.
    max_pending: int = doc("exchanges that may wait for one to an endpoint", 1024, least=0)
    idle_timeout: Duration = doc("an idle connection is closed after this", 60.0, least=MOMENT)
    connect_timeout: Duration = doc("for one connection attempt", 2.0, least=MOMENT)


@dataclass(frozen=True, slots=True)
class HealthCheckConfig:
    """How the endpoints of a service are asked whether they are well."""

    type: Literal["http", "tcp", "grpc"] = doc(
        "a GET of `path`, whether a connection opens, or grpc.health.v1", "http"
    )
    path: PathPrefix = doc('answers 2xx when all is well; "" = no check', "")
    host: Address = doc("the Host field; empty: the address of the endpoint", "")
    service: Text = doc("that grpc.health.v1 is asked for; empty: the whole server", "")
    interval: Duration = doc("between two checks of one endpoint", 10.0, least=0.1)
    timeout: Duration = doc("for the whole answer", 2.0, least=MOMENT)
    healthy: int = doc("checks passed in a row that bring an endpoint back", 2, least=1)
    unhealthy: int = doc("checks failed in a row that take it out", 3, least=1)
    panic_threshold: Percent = doc(
        "all endpoints are used when fewer than this are healthy; 0%: when none is",
        0.0,
        least=0.0,
        most=1.0,
    )

    @property
    def enabled(self) -> bool:
        return self.type != "http" or bool(self.path)


@dataclass(frozen=True, slots=True)
class OutlierConfig:
    """When an endpoint is ejected for what it does to requests. Figures are Envoy's."""

    errors: int = doc("errors in a row that eject an endpoint; 0: never", 0, least=0)
    eject_for: Duration = doc("times the ejections in a row", 30.0, least=0.1)
    max_eject_for: Duration = doc("the longest ejection", 300.0, least=0.1)
    max_ejected: Percent = doc(
        "share of the endpoints; one of two or more always may be", 0.5, least=0.01, most=1.0
    )
    stdev_factor: float = doc(
        "standard deviations below the mean success rate that eject; 0: never", 0.0, least=0.0
    )
    interval: Duration = doc("over which success rates are compared", 10.0, least=0.1)
    min_requests: int = doc("in an interval, for a rate to be compared", 100, least=1)
    min_endpoints: int = doc("with such a rate, for comparing at all", 5, least=3)

    @property
    def enabled(self) -> bool:
        return bool(self.errors or self.stdev_factor)


@dataclass(frozen=True, slots=True)
class UpstreamTlsConfig:
    """How the endpoints of a service prove who they are, and how the gateway does."""

    ca: str = doc("PEM file of the authorities to trust; empty: those of the system", "")
    server_name: ServerName = doc(
        "name that the certificate must have, also sent as SNI; empty: the endpoint's own", ""
    )
    cert: str = doc("PEM file of the certificate that the gateway presents; empty: none", "")
    key: str = doc("PEM file of its key; empty: it stands in `cert`", "")
    verify: bool = doc("false accepts any certificate: only for trying things out", True)


@dataclass(frozen=True, slots=True)
class TranscodeConfig:
    """JSON over HTTP for clients of a gRPC service, as its ``google.api.http`` rules have it."""

    descriptors: str = doc(
        "file of protoc --include_imports --descriptor_set_out, or reflection: what the service "
        "tells of itself; empty: calls come in gRPC alone",
        "",
    )
    refresh: Duration = doc("after which reflection is asked again", 60.0, least=1.0)
    services: tuple[str, ...] = doc("full names of those to serve; empty: all that there are", ())
    names: Literal["json", "proto"] = doc("of fields: pageSize, or page_size", "json")
    unset: Literal["left_out", "written"] = doc("fields that hold their default", "left_out")
    enums: Literal["names", "numbers"] = doc("how their values are written", "names")
    ignored_parameters: tuple[str, ...] = doc("of a query that are no fields: [access_token]", ())

    @property
    def by_reflection(self) -> bool:
        return self.descriptors == "reflection"


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """A service that routes can point at: ``consul`` or ``endpoints``, exactly one of the two."""

    consul: ServiceName = doc("name of the service in Consul", "")
    endpoints: tuple[EndpointSpec, ...] = doc(
        "fixed addresses: host:port, or {address, weight}", ()
    )
    protocol: Literal["http", "https", "h2c", "h2"] = doc(
        "how the endpoints are spoken to; h2 is HTTP/2 over TLS, h2c without", "http"
    )
    balance: Literal[
        "round_robin", "random", "least_connections", "p2c", "ewma", "consistent_hash"
    ] = doc("how an endpoint is chosen", "round_robin")
    hash_on: HashKey = doc(
        "for consistent_hash: client_ip, path, header:NAME or cookie:NAME is the key", ""
    )
    slow_start: Duration = doc(
        "in which an endpoint that joins others gets to its full weight; 0s: at once", 0.0, least=0
    )
    health_check: HealthCheckConfig = doc("asks each endpoint how it is", HealthCheckConfig)
    outlier: OutlierConfig = doc("leaves out endpoints that keep failing", OutlierConfig)
    host_header: HostHeader = doc(
        "Host that the endpoints get: preserve (the client's), endpoint (their address), or a name",
        "preserve",
    )
    pool: PoolConfig = doc("connections to each endpoint", PoolConfig)
    tls: UpstreamTlsConfig = doc("for endpoints that speak https", UpstreamTlsConfig)
    transcode: TranscodeConfig = doc("gRPC for clients that speak JSON", TranscodeConfig)


@dataclass(frozen=True, slots=True)
class MatchConfig:
    """Which requests a route takes. ``path`` or ``path_prefix``, exactly one of the two."""

    path: PathTemplate = doc("the exact path; a segment may be a {name}", "")
    path_prefix: PathPrefix = doc("matches whole segments: /a takes /a and /a/b, not /ab", "")
    methods: tuple[Method, ...] = doc("upper-case methods; empty: any", ())
    host: HostPattern = doc("the Host without port, lower case, or *.suffix; empty: any", "")
    headers: dict[HeaderName, str] = doc("header fields that must have exactly these values", {})


@dataclass(frozen=True, slots=True)
class SplitConfig:
    """One of several services between which a route divides its requests."""

    service: str = doc("a key of `services`")
    weight: int = doc("share of the requests relative to the others", 1, least=0, most=10_000)


@dataclass(frozen=True, slots=True)
class HeaderEdits:
    """Changes to the header fields of one message; ``config/actions.py`` says to which."""

    set: dict[HeaderName, HeaderValue] = doc("in place of the fields of that name", {})
    add: dict[HeaderName, HeaderValue] = doc("beside the fields of that name", {})
    remove: tuple[HeaderName, ...] = doc("these are not passed on", ())


@dataclass(frozen=True, slots=True)
class HeadersConfig:
    """Changes to the header fields of both messages."""

    request: HeaderEdits = doc("what the service gets", HeaderEdits)
    response: HeaderEdits = doc("what the client gets", HeaderEdits)


@dataclass(frozen=True, slots=True)
class RedirectConfig:
    """Sends the client to another address. What is not given stays as the client has it."""

    scheme: Literal["keep", "http", "https"] = doc("of the new address", "keep")
    host: HostName = doc("without port", "")
    port: int = doc("0: that of the scheme", 0, least=0, most=65535)
    path: PathTemplate = doc("in place of the path; may use the {names} of match.path", "")
    prefix: PathPrefix = doc("in place of match.path_prefix", "")
    strip_query: bool = doc("without the query string", False)
    status: int = doc(
        "301 and 308 are permanent; 307 and 308 keep the method",
        307,
        one_of=(301, 302, 303, 307, 308),
    )


@dataclass(frozen=True, slots=True)
class DirectResponseConfig:
    """A fixed answer from the gateway itself."""

    status: int = doc("200 to 599; 0: there is no direct response", 0, least=0, most=599)
    body: Text = doc("sent as UTF-8", "")
    content_type: HeaderValue = doc("of the body", "text/plain; charset=utf-8")


@dataclass(frozen=True, slots=True)
class RetryConfig:
    """When a failed attempt is repeated on another endpoint. A request that a service may have seen
    is repeated only if its method is idempotent and its body (64 KiB at most) still at hand."""

    attempts: int = doc("tries in all, the first included", 3, least=1, most=10)
    on: tuple[RetryCondition, ...] = doc(
        "connect (no connection to be had), reset (broken off, or no answer in time), a status, or "
        "of gRPC unavailable, resource-exhausted, deadline-exceeded, internal, cancelled",
        ("connect", "reset"),
    )
    per_try_timeout: Duration = doc(
        "to the response head, for each attempt; 0: the whole timeout", 0.0, least=0.0
    )


@dataclass(frozen=True, slots=True)
class RouteConfig(PolicyConfig):
    """What becomes of matching requests: exactly one of ``service``, ``split``, ``redirect`` and
    ``direct_response``. Who gets that far stands in the policy."""

    name: Token = doc("unique; the `route` label of metrics and logs")
    match: MatchConfig = doc("which requests")
    service: str = doc("a key of `services`", "")
    strip_prefix: PathPrefix = doc("removed from the start of the path before forwarding", "")
    timeout: Duration = doc("to the response head, all attempts together", 30.0, least=MOMENT)
    stream_idle_timeout: Duration = doc(
        "silence in a response body, or in both directions of a tunnel; 0: no limit",
        300.0,
        least=0.0,
    )
    retry: RetryConfig = doc("when a failed attempt is repeated", RetryConfig)
    split: tuple[SplitConfig, ...] = doc("or several: [{service, weight}, ...]", ())
    redirect: RedirectConfig = doc("or another address for the client", RedirectConfig)
    direct_response: DirectResponseConfig = doc("or a fixed answer", DirectResponseConfig)
    rewrite: PathTemplate = doc("in place of match.path or match.path_prefix; may use {names}", "")
    headers: HeadersConfig = doc("changes to header fields", HeadersConfig)


@dataclass(frozen=True, slots=True)
class CertificateConfig:
    """A certificate of the gateway."""

    cert: str = doc("PEM file: the certificate, then its intermediates")
    key: str = doc("PEM file of its private key; empty: it stands in `cert`", "")


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """TLS towards clients: with ``cert``, ``port`` speaks https and nothing else."""

    cert: str = doc("PEM file: the certificate, then its intermediates; empty: no TLS", "")
    key: str = doc("PEM file of its private key; empty: it stands in `cert`", "")
    certificates: tuple[CertificateConfig, ...] = doc(
        "more of them, {cert, key}, chosen by the name that a client asks for", ()
    )
    client_ca: str = doc(
        "PEM file of the authorities of client certificates; empty: clients need none", ""
    )
    client_auth: Literal["required", "optional"] = doc(
        "whether a client without certificate is let in", "required"
    )
    min_version: Literal["1.2", "1.3"] = doc("oldest TLS that is spoken", "1.2")


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    """What one client may cost."""

    header_bytes: Size = doc("request line and header fields together", 32 * 1024, least=1)
    header_count: int = doc("header fields of a request, and its trailers", 128, least=1)
    body: Size = doc("request body", 16 * 1024 * 1024, least=1)
    header_timeout: Duration = doc("from the first byte of a head to its last", 10.0, least=MOMENT)
    idle_timeout: Duration = doc(
        "a connection without a request is closed after this", 75.0, least=MOMENT
    )
    body_rate: Size = doc(
        "bytes per second that a request body has to bring, on average; 0: any", 240, least=0
    )
    connections: int = doc("downstream connections at a time", 10000, least=1)


@dataclass(frozen=True, slots=True)
class JobsConfig(PolicyConfig):
    """The job queue, and who may use it."""

    stream: Token = doc(
        "name of the JetStream stream; also the first token of its subjects", "jobs"
    )
    replicas: int = doc("copies of the stream in a NATS cluster", 1, one_of=(1, 3, 5))
    max_age: Duration = doc("a job is forgotten after this", 168 * 3600.0, least=1.0)
    types: tuple[Token, ...] = doc("accepted job types; empty: any valid token", ())
    ledger_jobs: int = doc(
        "jobs kept in memory; older ones are looked up in the stream", 100_000, least=1
    )


@dataclass(frozen=True, slots=True)
class AccessLogConfig:
    """JSON lines, one per exchange."""

    path: str = doc('a file, "-" for standard output, "" for no access log', "-")
    sample: float = doc(
        "share of the successful exchanges that are logged; errors always are",
        1.0,
        least=0.0,
        most=1.0,
    )


@dataclass(frozen=True, slots=True)
class RegisterConfig:
    """How the gateway registers itself in Consul."""

    name: ServiceName = doc('service name; "" = does not register', "siger-gateway", empty=True)
    address: Address = doc(
        "address that others reach it by; empty: the one that reaches Consul", ""
    )
    tags: tuple[str, ...] = doc("tags of the registration", ())


@dataclass(frozen=True, slots=True)
class AdminConfig(PolicyConfig):
    """A listener for operators: health, metrics, the effective routes and endpoints."""

    port: ListenAddress = doc(
        'where; "" = nowhere. Beyond this machine only with `auth: required`',
        "127.0.0.1:9901",
        empty=True,
    )


@dataclass(frozen=True, slots=True)
class GrpcConfig:
    """A listener that speaks HTTP/2 alone, beside ``port``, which speaks both."""

    port: ListenAddress = doc('where; "" = nowhere: gRPC works on `port` too', "", empty=True)


@dataclass(frozen=True, slots=True)
class Config:
    """The whole file."""

    port: ListenAddress = doc("where clients connect", ":8080")
    reuse_port: bool = doc(
        "whether other gateways of the same user may listen on the same port (SO_REUSEPORT)", False
    )
    consul_address: ConsulAddress = doc(
        'host:port of the Consul agent; "" = no Consul', "localhost:8500", empty=True
    )
    consul_token: str = doc("ACL token for Consul; better as ${NAME}", "", secret=True)
    nats_address: NatsAddress = doc(
        'host:port, comma-separated for a cluster; "" = no jobs', "localhost:4222", empty=True
    )
    log_level: Literal["debug", "info", "warning", "error"] = doc("of the application log", "info")
    data_dir: str = doc('where the discovery snapshot is kept; "" = nowhere', "./data")
    drain_timeout: Duration = doc(
        "how long a shutdown waits for what is in flight", 30.0, least=0.0
    )
    trusted_proxies: tuple[Network, ...] = doc(
        "whose X-Forwarded-* and Forwarded are believed; empty: nobody's", ()
    )
    admin: AdminConfig = doc("for operators, never on the public port", AdminConfig)
    grpc: GrpcConfig = doc("a port for gRPC alone", GrpcConfig)
    tls: TlsConfig = doc("with a certificate, `port` speaks https", TlsConfig)
    limits: LimitsConfig = doc("what one client may cost", LimitsConfig)
    auth: AuthConfig = doc("by which means clients show who they are", AuthConfig)
    cors: CorsConfig = doc("of routes that have none of their own, and of the jobs API", CorsConfig)
    register: RegisterConfig = doc("how the gateway registers itself in Consul", RegisterConfig)
    services: dict[Token, ServiceConfig] = doc("name -> service", {})
    routes: tuple[RouteConfig, ...] = doc("longest match wins, then the most predicates", ())
    expose_services: tuple[ExposedName, ...] = doc(
        'names (or "*") reachable as /services/<name>/<path>', ()
    )
    consul_routes: bool = doc("services in Consul may bring their routes in `siger.` tags", True)
    jobs: JobsConfig = doc("the job queue", JobsConfig)
    access_log: AccessLogConfig = doc("one JSON line per exchange", AccessLogConfig)


PLANNED: Final[dict[str, frozenset[str]]] = {
    "Config": frozenset({"tracing"}),
    "RouteConfig": frozenset({"mirror"}),
    "JobsConfig": frozenset({"submit_subject"}),
}
"""Class name -> keys of the contract that this version does not act on yet."""

SHORTHAND: Final[dict[str, str]] = {
    "EndpointSpec": "address",
    "SecurityHeadersConfig": "enabled",
}
"""Class name -> the field that a bare scalar in place of the mapping sets."""

RENAMED: Final[dict[str, str]] = {
    "consulAddress": "consul_address",
    "natsAddress": "nats_address",
    "logLevel": "log_level",
    "jwtSecret": "auth.jwt.secret",
    "jwtExpiration": "auth.jwt.lifetime",
    "corsAllowed": "cors.origins",
}
"""Top-level keys of the earlier Go gateway -> where their values stand here."""
