"""What a configuration may hold: one frozen class per YAML mapping, one field per key.

``load.py`` walks these classes to read and check a file, so a field here is all that a new key
takes: its type says how the value is parsed (``values.py`` holds one parser per ``Annotated``
word), its default what holds when the key is missing, ``doc`` what the default file says about it,
``least``, ``most`` and ``one_of`` which values make sense. Names and defaults are those of the
contract; a key that a later version will understand stands in ``PLANNED`` and is refused as
"not supported yet", because a setting that silently does nothing is worse than an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

Duration = Annotated[float, "duration"]
"""Seconds, written ``250ms``, ``30s``, ``5m``, ``24h``."""
Size = Annotated[int, "size"]
"""Bytes, written ``512``, ``64KiB``, ``10MiB``, ``1GiB``."""
Percent = Annotated[float, "percent"]
"""A share from 0 to 1, written ``50%``."""
ListenAddress = Annotated[str, "listen address"]
"""``:8080`` (every interface), ``127.0.0.1:8080``, ``[::1]:8080`` or a bare port number."""
HostPort = Annotated[str, "host:port"]
"""``name:port``, ``127.0.0.1:9001`` or ``[::1]:9001``; the port is required."""
Token = Annotated[str, "token"]
"""Letters, digits, ``_`` and ``-``: safe in a subject, a label and a path. 1 to 64 characters."""
PathPrefix = Annotated[str, "path"]
"""Begins with ``/``; no ``?``, ``#``, space, dot segment or empty segment."""
PathTemplate = Annotated[str, "path template"]
"""A path in which whole segments may be ``{names}``, each name once."""
Network = Annotated[str, "network"]
"""``10.0.0.0/8``, ``fd00::/8`` or a single address."""
ConsulAddress = Annotated[str, "consul address"]
"""``host:port``; a leading ``http://`` is accepted and removed."""
NatsAddress = Annotated[str, "nats address"]
"""``host:port``, or several with commas; a leading ``nats://`` is accepted and removed."""
Address = Annotated[str, "address"]
"""A host, or ``host:port``."""
ServerName = Annotated[str, "server name"]
"""A host name or an IP address, without port."""
ServiceName = Annotated[str, "service name"]
"""A name as Consul has it: letters, digits, ``.``, ``_`` and ``-``. 1 to 128 characters."""
ExposedName = Annotated[str, "exposed name"]
"""A service name, or ``*`` for all of them."""
Method = Annotated[str, "method"]
"""An HTTP method (RFC 9110 section 9.1) in upper case."""
HostName = Annotated[str, "host name"]
"""A host in lower case without port."""
RetryCondition = Annotated[str, "retry condition"]
"""``connect``, ``reset``, or a status from 400 to 599."""
HostPattern = Annotated[str, "host"]
"""A host in lower case without port, or ``*.suffix``."""
HeaderName = Annotated[str, "header name"]
"""A field name (RFC 9110 section 5.1); kept in lower case."""
HashKey = Annotated[str, "hash key"]
"""``client_ip``, ``path``, ``header:NAME`` or ``cookie:NAME``."""
HeaderValue = Annotated[str, "header value"]
"""A field value (RFC 9110 section 5.5) of printable ASCII characters."""
Text = Annotated[str, "text"]
"""Any text, with line breaks and tabs."""

HostHeader = Annotated[str, "host header"]
"""``preserve``, ``endpoint``, or the host to say, with or without a port."""

MOMENT: Final = 0.001
"""Seconds: the shortest timeout that is accepted; below it the event loop has no resolution."""


def _doc(text: str, default: Any = ..., **rules: Any) -> Any:
    """A field with its documentation; ``...`` means that the key is required.

    :param rules: ``least`` and ``most`` (inclusive, in the unit of the field), ``one_of`` (a tuple
        of the only values), ``secret`` (the value never appears in a message), ``empty`` (``""`` is
        a value too; always so where it is the default).
    """
    metadata = {"doc": text, **rules}
    if default is ...:
        return field(metadata=metadata)
    if isinstance(default, type):  # a nested class: its own defaults
        return field(default_factory=default, metadata=metadata)
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """One address of a service; in YAML also written as the bare string ``host:port``."""

    address: HostPort = _doc("host:port of the instance")
    weight: int = _doc("share of the traffic relative to the others", 1, least=1, most=1000)
    protocol: Literal["", "http", "https"] = _doc(
        "how this one is spoken to; empty: as its service is", ""
    )


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """Connections from this gateway to each endpoint of a service."""

    max_connections: int = _doc("connections per endpoint, busy and idle", 256, least=1)
    # 1024 is Envoy's max_pending_requests.
    max_pending: int = _doc("exchanges that may wait for one to an endpoint", 1024, least=0)
    idle_timeout: Duration = _doc("an idle connection is closed after this", 60.0, least=MOMENT)
    connect_timeout: Duration = _doc("for one connection attempt", 2.0, least=MOMENT)


@dataclass(frozen=True, slots=True)
class HealthCheckConfig:
    """How the endpoints of a service are asked whether they are well."""

    type: Literal["http", "tcp"] = _doc("a GET of `path`, or whether a connection opens", "http")
    path: PathPrefix = _doc('answers 2xx when all is well; "" = no check', "")
    host: Address = _doc("the Host field; empty: the address of the endpoint", "")
    interval: Duration = _doc("between two checks of one endpoint", 10.0, least=0.1)
    timeout: Duration = _doc("for the whole answer", 2.0, least=MOMENT)
    healthy: int = _doc("checks passed in a row that bring an endpoint back", 2, least=1)
    unhealthy: int = _doc("checks failed in a row that take it out", 3, least=1)
    panic_threshold: Percent = _doc(
        "all endpoints are used when fewer than this are healthy; 0%: when none is",
        0.0,
        least=0.0,
        most=1.0,
    )

    @property
    def enabled(self) -> bool:
        return self.type == "tcp" or bool(self.path)


@dataclass(frozen=True, slots=True)
class OutlierConfig:
    """When an endpoint is ejected for what it does to requests. Figures are Envoy's."""

    errors: int = _doc("errors in a row that eject an endpoint; 0: never", 0, least=0)
    eject_for: Duration = _doc("times the ejections in a row", 30.0, least=0.1)
    max_eject_for: Duration = _doc("the longest ejection", 300.0, least=0.1)
    max_ejected: Percent = _doc(
        "share of the endpoints; one of two or more always may be", 0.5, least=0.01, most=1.0
    )
    stdev_factor: float = _doc(
        "standard deviations below the mean success rate that eject; 0: never", 0.0, least=0.0
    )
    interval: Duration = _doc("over which success rates are compared", 10.0, least=0.1)
    min_requests: int = _doc("in an interval, for a rate to be compared", 100, least=1)
    min_endpoints: int = _doc("with such a rate, for comparing at all", 5, least=3)

    @property
    def enabled(self) -> bool:
        return bool(self.errors or self.stdev_factor)


@dataclass(frozen=True, slots=True)
class UpstreamTlsConfig:
    """How the endpoints of a service prove who they are, and how the gateway does."""

    ca: str = _doc("PEM file of the authorities to trust; empty: those of the system", "")
    server_name: ServerName = _doc(
        "name that the certificate must have, also sent as SNI; empty: the endpoint's own", ""
    )
    cert: str = _doc("PEM file of the certificate that the gateway presents; empty: none", "")
    key: str = _doc("PEM file of its key; empty: it stands in `cert`", "")
    verify: bool = _doc("false accepts any certificate: only for trying things out", True)


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """A service that routes can point at: ``consul`` or ``endpoints``, exactly one of the two."""

    consul: ServiceName = _doc("name of the service in Consul", "")
    endpoints: tuple[EndpointSpec, ...] = _doc(
        "fixed addresses: host:port, or {address, weight}", ()
    )
    protocol: Literal["http", "https"] = _doc("how the endpoints are spoken to", "http")
    balance: Literal[
        "round_robin", "random", "least_connections", "p2c", "ewma", "consistent_hash"
    ] = _doc("how an endpoint is chosen", "round_robin")
    hash_on: HashKey = _doc(
        "for consistent_hash: client_ip, path, header:NAME or cookie:NAME is the key", ""
    )
    slow_start: Duration = _doc(
        "in which an endpoint that joins others gets to its full weight; 0s: at once", 0.0, least=0
    )
    health_check: HealthCheckConfig = _doc("asks each endpoint how it is", HealthCheckConfig)
    outlier: OutlierConfig = _doc("leaves out endpoints that keep failing", OutlierConfig)
    host_header: HostHeader = _doc(
        "Host that the endpoints get: preserve (the client's), endpoint (their address), or a name",
        "preserve",
    )
    pool: PoolConfig = _doc("connections to each endpoint", PoolConfig)
    tls: UpstreamTlsConfig = _doc("for endpoints that speak https", UpstreamTlsConfig)


@dataclass(frozen=True, slots=True)
class MatchConfig:
    """Which requests a route takes. ``path`` or ``path_prefix``, exactly one of the two."""

    path: PathTemplate = _doc("the exact path; a segment may be a {name}", "")
    path_prefix: PathPrefix = _doc("matches whole segments: /a takes /a and /a/b, not /ab", "")
    methods: tuple[Method, ...] = _doc("upper-case methods; empty: any", ())
    host: HostPattern = _doc("the Host without port, lower case, or *.suffix; empty: any", "")
    headers: dict[HeaderName, str] = _doc("header fields that must have exactly these values", {})


@dataclass(frozen=True, slots=True)
class SplitConfig:
    """One of several services between which a route divides its requests."""

    service: str = _doc("a key of `services`")
    weight: int = _doc("share of the requests relative to the others", 1, least=0, most=10_000)


@dataclass(frozen=True, slots=True)
class HeaderEdits:
    """Changes to the header fields of one message; ``config/actions.py`` says to which."""

    set: dict[HeaderName, HeaderValue] = _doc("in place of the fields of that name", {})
    add: dict[HeaderName, HeaderValue] = _doc("beside the fields of that name", {})
    remove: tuple[HeaderName, ...] = _doc("these are not passed on", ())


@dataclass(frozen=True, slots=True)
class HeadersConfig:
    """Changes to the header fields of both messages."""

    request: HeaderEdits = _doc("what the service gets", HeaderEdits)
    response: HeaderEdits = _doc("what the client gets", HeaderEdits)


@dataclass(frozen=True, slots=True)
class RedirectConfig:
    """Sends the client to another address. What is not given stays as the client has it."""

    scheme: Literal["keep", "http", "https"] = _doc("of the new address", "keep")
    host: HostName = _doc("without port", "")
    port: int = _doc("0: that of the scheme", 0, least=0, most=65535)
    path: PathTemplate = _doc("in place of the path; may use the {names} of match.path", "")
    prefix: PathPrefix = _doc("in place of match.path_prefix", "")
    strip_query: bool = _doc("without the query string", False)
    status: int = _doc(
        "301 and 308 are permanent; 307 and 308 keep the method",
        307,
        one_of=(301, 302, 303, 307, 308),
    )


@dataclass(frozen=True, slots=True)
class DirectResponseConfig:
    """A fixed answer from the gateway itself."""

    status: int = _doc("200 to 599; 0: there is no direct response", 0, least=0, most=599)
    body: Text = _doc("sent as UTF-8", "")
    content_type: HeaderValue = _doc("of the body", "text/plain; charset=utf-8")


@dataclass(frozen=True, slots=True)
class RetryConfig:
    """When a failed attempt is repeated on another endpoint. A request that a service may have seen
    is repeated only if its method is idempotent and its body (64 KiB at most) still at hand."""

    attempts: int = _doc("tries in all, the first included", 3, least=1, most=10)
    on: tuple[RetryCondition, ...] = _doc(
        "connect (no connection to be had), reset (broken off, or no answer in time), or a status",
        ("connect", "reset"),
    )
    per_try_timeout: Duration = _doc(
        "to the response head, for each attempt; 0: the whole timeout", 0.0, least=0.0
    )


@dataclass(frozen=True, slots=True)
class RouteConfig:
    """What becomes of matching requests: exactly one of ``service``, ``split``, ``redirect`` and
    ``direct_response``."""

    name: Token = _doc("unique; the `route` label of metrics and logs")
    match: MatchConfig = _doc("which requests")
    service: str = _doc("a key of `services`", "")
    strip_prefix: PathPrefix = _doc("removed from the start of the path before forwarding", "")
    timeout: Duration = _doc("to the response head, all attempts together", 30.0, least=MOMENT)
    stream_idle_timeout: Duration = _doc(
        "silence in a response body, or in both directions of a tunnel; 0: no limit",
        300.0,
        least=0.0,
    )
    retry: RetryConfig = _doc("when a failed attempt is repeated", RetryConfig)
    split: tuple[SplitConfig, ...] = _doc("or several: [{service, weight}, ...]", ())
    redirect: RedirectConfig = _doc("or another address for the client", RedirectConfig)
    direct_response: DirectResponseConfig = _doc("or a fixed answer", DirectResponseConfig)
    rewrite: PathTemplate = _doc("in place of match.path or match.path_prefix; may use {names}", "")
    headers: HeadersConfig = _doc("changes to header fields", HeadersConfig)


@dataclass(frozen=True, slots=True)
class CertificateConfig:
    """A certificate of the gateway."""

    cert: str = _doc("PEM file: the certificate, then its intermediates")
    key: str = _doc("PEM file of its private key; empty: it stands in `cert`", "")


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """TLS towards clients: with ``cert``, ``port`` speaks https and nothing else."""

    cert: str = _doc("PEM file: the certificate, then its intermediates; empty: no TLS", "")
    key: str = _doc("PEM file of its private key; empty: it stands in `cert`", "")
    certificates: tuple[CertificateConfig, ...] = _doc(
        "more of them, {cert, key}, chosen by the name that a client asks for", ()
    )
    client_ca: str = _doc(
        "PEM file of the authorities of client certificates; empty: clients need none", ""
    )
    client_auth: Literal["required", "optional"] = _doc(
        "whether a client without certificate is let in", "required"
    )
    min_version: Literal["1.2", "1.3"] = _doc("oldest TLS that is spoken", "1.2")


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    """What one client may cost."""

    header_bytes: Size = _doc("request line and header fields together", 32 * 1024, least=1)
    header_count: int = _doc("header fields of a request, and its trailers", 128, least=1)
    body: Size = _doc("request body", 16 * 1024 * 1024, least=1)
    header_timeout: Duration = _doc("from the first byte of a head to its last", 10.0, least=MOMENT)
    idle_timeout: Duration = _doc(
        "a connection without a request is closed after this", 75.0, least=MOMENT
    )
    body_rate: Size = _doc(
        "bytes per second that a request body has to bring, on average; 0: any", 240, least=0
    )
    connections: int = _doc("downstream connections at a time", 10000, least=1)


@dataclass(frozen=True, slots=True)
class JobsConfig:
    """The job queue."""

    stream: Token = _doc(
        "name of the JetStream stream; also the first token of its subjects", "jobs"
    )
    replicas: int = _doc("copies of the stream in a NATS cluster", 1, one_of=(1, 3, 5))
    max_age: Duration = _doc("a job is forgotten after this", 168 * 3600.0, least=1.0)
    types: tuple[Token, ...] = _doc("accepted job types; empty: any valid token", ())
    ledger_jobs: int = _doc(
        "jobs kept in memory; older ones are looked up in the stream", 100_000, least=1
    )


@dataclass(frozen=True, slots=True)
class AccessLogConfig:
    """JSON lines, one per exchange."""

    path: str = _doc('a file, "-" for standard output, "" for no access log', "-")
    sample: float = _doc(
        "share of the successful exchanges that are logged; errors always are",
        1.0,
        least=0.0,
        most=1.0,
    )


@dataclass(frozen=True, slots=True)
class RegisterConfig:
    """How the gateway registers itself in Consul."""

    name: ServiceName = _doc('service name; "" = does not register', "siger-gateway", empty=True)
    address: Address = _doc(
        "address that others reach it by; empty: the one that reaches Consul", ""
    )
    tags: tuple[str, ...] = _doc("tags of the registration", ())


@dataclass(frozen=True, slots=True)
class Config:
    """The whole file."""

    port: ListenAddress = _doc("where clients connect", ":8080")
    reuse_port: bool = _doc(
        "whether other gateways of the same user may listen on the same port (SO_REUSEPORT)", False
    )
    consul_address: ConsulAddress = _doc(
        'host:port of the Consul agent; "" = no Consul', "localhost:8500", empty=True
    )
    consul_token: str = _doc("ACL token for Consul; better as ${NAME}", "", secret=True)
    nats_address: NatsAddress = _doc(
        'host:port, comma-separated for a cluster; "" = no jobs', "localhost:4222", empty=True
    )
    log_level: Literal["debug", "info", "warning", "error"] = _doc("of the application log", "info")
    data_dir: str = _doc('where the discovery snapshot is kept; "" = nowhere', "./data")
    drain_timeout: Duration = _doc(
        "how long a shutdown waits for what is in flight", 30.0, least=0.0
    )
    trusted_proxies: tuple[Network, ...] = _doc(
        "whose X-Forwarded-* and Forwarded are believed; empty: nobody's", ()
    )
    tls: TlsConfig = _doc("with a certificate, `port` speaks https", TlsConfig)
    limits: LimitsConfig = _doc("what one client may cost", LimitsConfig)
    register: RegisterConfig = _doc("how the gateway registers itself in Consul", RegisterConfig)
    services: dict[Token, ServiceConfig] = _doc("name -> service", {})
    routes: tuple[RouteConfig, ...] = _doc("longest match wins, then the most predicates", ())
    expose_services: tuple[ExposedName, ...] = _doc(
        'names (or "*") reachable as /services/<name>/<path>', ()
    )
    consul_routes: bool = _doc("services in Consul may bring their routes in `siger.` tags", True)
    jobs: JobsConfig = _doc("the job queue", JobsConfig)
    access_log: AccessLogConfig = _doc("one JSON line per exchange", AccessLogConfig)


PLANNED: Final[dict[str, frozenset[str]]] = {
    "Config": frozenset({"admin", "grpc", "auth", "tracing"}),
    "RouteConfig": frozenset(
        {
            "auth",
            "roles",
            "rate_limit",
            "cors",
            "allow",
            "deny",
            "mirror",
        }
    ),
    "JobsConfig": frozenset({"submit_subject", "auth"}),
}
"""Class name -> keys of the contract that this version does not act on yet."""

PLANNED_VALUES: Final[dict[str, frozenset[str]]] = {
    "ServiceConfig.protocol": frozenset({"h2c", "h2"}),
}
"""Class.field -> values of the contract that this version does not act on yet."""

SHORTHAND: Final[dict[str, str]] = {"EndpointSpec": "address"}
"""Class name -> the field that a bare scalar in place of the mapping sets."""

RENAMED: Final[dict[str, str]] = {
    "consulAddress": "consul_address",
    "natsAddress": "nats_address",
    "logLevel": "log_level",
}
"""Top-level keys of the earlier Go gateway -> their names here."""

RENAMED_PLANNED: Final[dict[str, str]] = {
    "jwtSecret": "auth.jwt.secret",
    "jwtExpiration": "auth.jwt",
    "corsAllowed": "cors.origins of each route",
}
"""Top-level keys of the Go gateway -> where the contract has them, once they are supported."""
