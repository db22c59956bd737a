"""An accepted connection on a TLS listener, from ``accept`` to the end of the handshake.

Until its first bytes are there, a client costs no more than a socket. They tell what it speaks: a
TLS handshake begins, or the client is told to use https. In either case a ``DownstreamConnection``
takes over in the end. How each handshake went is counted; the log says it at debug level only, for
anybody can make handshakes fail.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import TYPE_CHECKING, Final, Protocol, cast

from siger_gateway.http1.server import DownstreamConnection
from siger_gateway.tls.transport import TlsTransport

if TYPE_CHECKING:
    from siger_gateway.listener.listener import Listener

HANDSHAKE_RECORD: Final = 0x16
"""The first byte of every TLS connection (RFC 8446 section 5.1)."""

log = logging.getLogger(__name__)


class TlsSettings(Protocol):
    """What a listener has to know of TLS; it asks anew for each connection."""

    @property
    def context(self) -> ssl.SSLContext: ...

    @property
    def outcomes(self) -> dict[str, int]:
        """Handshakes by how they ended; ``ok`` or why not."""


class AcceptedConnection(asyncio.Protocol):
    """One connection that is not established yet."""

    __slots__ = ("_listener", "_silent", "_since", "_tls", "_transport")

    def __init__(self, listener: Listener, tls: TlsSettings) -> None:
        self._listener = listener
        self._tls = tls
        self._since = listener.now
        self._silent = True
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)  # until connection_made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._listener.add_accepted(self)

    def data_received(self, data: bytes) -> None:
        self._silent = False
        if data[0] == HANDSHAKE_RECORD:
            tls = TlsTransport.server_side(self._tls.context, self)
            self._transport.set_protocol(tls)
            tls.connection_made(self._transport)
            tls.data_received(data)
        else:
            self._end("plain_http")
            plain = DownstreamConnection(self._listener)
            self._transport.set_protocol(plain)
            plain.connection_made(self._transport)
            plain.refuse_plain()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end("closed")

    def on_handshake_done(self, transport: TlsTransport) -> asyncio.BaseProtocol:
        self._end("ok")
        chosen = transport.get_extra_info("ssl_object").selected_alpn_protocol()
        return self._listener.established(http2=chosen == "h2")

    def on_handshake_failed(self, error: Exception) -> None:
        if isinstance(error, ssl.SSLCertVerificationError):
            self._end("client_certificate")
        elif isinstance(error, ssl.SSLError):
            certificate = error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE"
            self._end("client_certificate" if certificate else "protocol")
        else:
            self._end("closed")
        fields = {"peer": self._transport.get_extra_info("peername"), "error": str(error)}
        log.debug("TLS handshake failed", extra={"fields": fields})

    def check(self, now: float, timeout: float) -> None:
        """Closes the connection when it has not been established in ``timeout`` seconds."""
        if now - self._since > timeout:
            self.abort("timeout")

    def close_if_silent(self) -> None:
        """For a drain: closes a connection on which nothing has come."""
        if self._silent:
            self.abort("draining")

    @property
    def at_rest_since(self) -> float:
        """Until the handshake ends, the gateway waits for the client."""
        return self._since

    def close_if_at_rest(self, before: float) -> bool:
        """For the listener: makes room; whether it did."""
        if self._since > before or self not in self._listener.accepted:
            return False
        self.abort("made_room")
        return True

    def abort(self, outcome: str) -> None:
        self._end(outcome)
        self._transport.abort()

    def _end(self, outcome: str) -> None:
        if self in self._listener.accepted:
            self._listener.remove_accepted(self)
            self._tls.outcomes[outcome] += 1
