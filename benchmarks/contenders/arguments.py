"""The command line of the contenders that are here: ``[--certificate FILE] PORT ENDPOINT...``."""

from __future__ import annotations

import argparse
import ssl
from dataclasses import dataclass

BACKLOG = 4096
"""Connections that may wait to be accepted: Linux's own limit. The load's come all at once."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """Where to listen, and where to send requests."""

    port: int
    endpoints: list[str]
    """Addresses."""
    tls: ssl.SSLContext | None
    """With what to listen; None: without TLS."""


def arguments() -> Arguments:
    """Of this process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--certificate", help="a PEM file that holds the key, too")
    parser.add_argument("port", type=int)
    parser.add_argument("endpoints", nargs="+")
    found = parser.parse_args()
    tls = None
    if found.certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.minimum_version = ssl.TLSVersion.TLSv1_3
        tls.load_cert_chain(found.certificate)
    return Arguments(found.port, found.endpoints, tls)
