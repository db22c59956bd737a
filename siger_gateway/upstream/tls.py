"""From the ``tls`` section of a service to the files that ``siger_gateway.tls`` works with."""

from __future__ import annotations

from siger_gateway.config.schema import UpstreamTlsConfig
from siger_gateway.tls.client import ClientFiles
from siger_gateway.tls.contexts import KeyPair


def client_files(config: UpstreamTlsConfig) -> ClientFiles:
    """What connections to the service need."""
    pair = KeyPair(config.cert, config.key) if config.cert else None
    return ClientFiles(config.ca, config.server_name, pair, "full" if config.verify else "none")
