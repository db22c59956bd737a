"""How a connection to an endpoint is opened: plain or with TLS, and why it could not be."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import TypeVar

from siger_gateway.tls.client import ClientTls

P = TypeVar("P", bound=asyncio.Protocol)


class Dialer:
    """Opens connections to ``host:port``.

    :param tls: None: they are plain.
    """

    __slots__ = ("address", "host", "port", "tls")

    def __init__(self, host: str, port: int, tls: ClientTls | None) -> None:
        self.host = host
        self.port = port
        self.tls = tls
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def dial(self, factory: Callable[[], P]) -> P:
        """A new connection to the endpoint: the one place where they are opened.

        :raises OSError: if there is none; ``ssl.SSLError``, which is one, if TLS fails.
        """
        try:
            if self.tls is not None:
                return await self.tls.connect(factory, self.host, self.port)
            _, connection = await asyncio.get_running_loop().create_connection(
                factory, self.host, self.port
            )
        except UnicodeError as error:  # a name that IDNA does not take, such as a..b
            raise OSError(str(error)) from error
        return connection


def why_not(error: OSError) -> tuple[str, str]:
    """Reason and detail of a connection that could not be opened."""
    if isinstance(error, TimeoutError):
        return "connect_timeout", "no answer"
    if isinstance(error, ConnectionRefusedError):
        return "connect_refused", str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return "tls_certificate", error.verify_message
    if isinstance(error, ssl.SSLError):
        return "tls_failed", getattr(error, "reason", "") or str(error)
    # A name that does not resolve, no route, no file descriptor left.
    return "connect_failed", str(error)
