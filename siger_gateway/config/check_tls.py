"""Checks of the ``tls`` sections: files are opened here already, and certificates looked into.

A certificate that cannot be used is found by ``check`` and by a reload, not by the first client.
The files are loaded as serving would load them, so the two cannot disagree.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from siger_gateway.config.problem import Mark, Report
from siger_gateway.config.schema import ServiceConfig, TlsConfig
from siger_gateway.tls.certificates import EXPIRES_SOON
from siger_gateway.tls.contexts import (
    FileProblem,
    KeyPair,
    client_context,
    read_text,
    server_context,
)
from siger_gateway.tls.x509 import NotACertificate, read_pem

Where = Callable[[str], Mark]

_OFF_WITHOUT_CERT: Final = ("key", "certificates", "client_ca")


def check_tls(config: TlsConfig, report: Report, where: Where) -> None:
    """The section of the listener."""
    if not report.is_good_below("tls"):
        return
    if not config.cert:
        for name in _OFF_WITHOUT_CERT:
            if getattr(config, name):
                key = f"tls.{name}"
                report.add(where(key), key, 'has no effect without "cert"')
        return
    first = KeyPair(config.cert, config.key)
    try:
        server_context(first, config.min_version, config.client_ca, config.client_auth)
    except FileProblem as problem:
        _add(problem, "tls", {"ca": "client_ca"}, report, where)
    else:
        _check_certificate(first.cert, "tls.cert", report, where)
    for index, one in enumerate(config.certificates):
        key = f"tls.certificates[{index}]"
        pair = KeyPair(one.cert, one.key)
        try:
            server_context(pair, config.min_version, "", config.client_auth)
        except FileProblem as problem:
            _add(problem, key, {}, report, where)
        else:
            if not _check_certificate(one.cert, f"{key}.cert", report, where):
                said = "the certificate has no DNS name: no client can ask for it"
                report.add(where(f"{key}.cert"), f"{key}.cert", said)


def check_service_tls(service: ServiceConfig, key: str, report: Report, where: Where) -> None:
    """The section of one service; ``key`` is the service's path."""
    config, at = service.tls, f"{key}.tls"
    if not report.is_good_below(at) or not report.is_good(f"{key}.protocol"):
        return
    speaks = service.protocol in ("https", "h2") or any(
        endpoint.protocol in ("https", "h2") for endpoint in service.endpoints
    )
    if not speaks and not service.consul:  # an instance in Consul may say that it speaks it
        if config != type(config)() and report.is_good_below(f"{key}.endpoints"):
            report.add(where(at), at, "has no effect: no endpoint speaks https or h2")
        return
    if config.key and not config.cert:
        report.add(where(f"{at}.key"), f"{at}.key", 'has no effect without "cert"')
        return
    if not config.verify:
        if config.ca:
            report.add(where(f"{at}.ca"), f"{at}.ca", 'has no effect with "verify: false"')
            return
        said = "whoever answers is taken for the service: not for production"
        report.warn(where(f"{at}.verify"), f"{at}.verify", said)
    if not config.ca and not config.cert:
        return  # nothing to read; the system's authorities are many
    pair = KeyPair(config.cert, config.key) if config.cert else None
    try:
        client_context(config.ca, pair, "full" if config.ca else "none")
    except FileProblem as problem:
        _add(problem, at, {}, report, where)
    else:
        if pair is not None:
            _check_certificate(pair.cert, f"{at}.cert", report, where)


def _add(
    problem: FileProblem, section: str, names: dict[str, str], report: Report, where: Where
) -> None:
    key = f"{section}.{names.get(problem.what, problem.what)}"
    report.add(where(key), key, f"{problem.file}: {problem.why}")


def _check_certificate(file: str, key: str, report: Report, where: Where) -> tuple[str, ...]:
    """Warns when it ends soon; returns its names."""
    try:
        certificate = read_pem(read_text("cert", file))
    except (NotACertificate, FileProblem) as error:
        report.add(where(key), key, str(error))
        return ("",)
    if certificate.not_after - time.time() < EXPIRES_SOON:
        end = datetime.fromtimestamp(certificate.not_after, UTC)
        has = "has expired" if certificate.not_after < time.time() else "expires"
        report.warn(where(key), key, f"the certificate {has} on {end:%Y-%m-%d}")
    return certificate.names
