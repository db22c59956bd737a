"""TLS to a service: the context that its connections share, and how one of them is opened.

The files are read when the context is made, when the gateway reloads, and when they have changed
(certificates for mutual TLS are short-lived). If they cannot be used, connections fail and the log
says why; an old context stays in use as long as there is one.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from siger_gateway.tls.certificates import LOOK_INTERVAL, FileState, file_state
from siger_gateway.tls.contexts import FileProblem, KeyPair, Verify, client_context
from siger_gateway.tls.transport import TlsTransport

P = TypeVar("P", bound=asyncio.Protocol)

NO_CONTEXT: Final = "the files of the service's tls section cannot be used"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ClientFiles:
    """Whom to trust, and what to present.

    ``ca`` "": the system's authorities. ``server_name`` "": the name or address of the endpoint.
    """

    ca: str = ""
    server_name: str = ""
    pair: KeyPair | None = None
    verify: Verify = "full"

    @property
    def files(self) -> tuple[str, ...]:
        ca = (self.ca,) if self.ca else ()
        return (*ca, *self.pair.files) if self.pair else ca


class ClientTls:
    """What all connections to one service have in common."""

    def __init__(self, source: ClientFiles, alpn: str = "http/1.1") -> None:
        self._source = source
        self._alpn = alpn
        self._context: ssl.SSLContext | None = None
        self._state: FileState = ()
        self._next_look = 0.0
        self.reload()

    def reload(self) -> None:
        """Reads the files anew, for new connections. Raises nothing."""
        source = self._source
        self._state = file_state(source.files)
        try:
            self._context = client_context(source.ca, source.pair, source.verify, self._alpn)
        except FileProblem as problem:
            fields = {"file": problem.file, "error": problem.why}
            log.error("file for TLS to a service is not used", extra={"fields": fields})

    def look(self, now: float) -> None:
        """Reads the files anew if they have changed; ``now`` is the loop's time."""
        if now >= self._next_look:
            self._next_look = now + LOOK_INTERVAL
            if file_state(self._source.files) != self._state:
                self.reload()

    async def connect(self, factory: Callable[[], P], host: str, port: int) -> P:
        """A protocol made by ``factory``, on an established and verified connection.

        :raises OSError: if there is no connection, as ``create_connection`` does.
        :raises ssl.SSLCertVerificationError: if the service is not who it should be.
        :raises ssl.SSLError: if the handshake fails in any other way.
        """
        if self._context is None:
            raise ssl.SSLError(NO_CONTEXT)
        connecting = _Connecting(factory)
        tls = TlsTransport.client_side(self._context, connecting, self._source.server_name or host)
        plain, _ = await asyncio.get_running_loop().create_connection(lambda: tls, host, port)
        try:
            return await connecting.established
        except BaseException:  # a timeout too: nobody else knows of this connection
            tls.set_protocol(asyncio.Protocol())  # established in the last moment, yet not in use
            plain.abort()
            raise


class _Connecting(Generic[P]):
    """Waits for one handshake."""

    def __init__(self, factory: Callable[[], P]) -> None:
        self._factory = factory
        self.established: asyncio.Future[P] = asyncio.get_running_loop().create_future()

    def on_handshake_done(self, transport: TlsTransport) -> asyncio.BaseProtocol:
        protocol = self._factory()
        if not self.established.done():
            self.established.set_result(protocol)
        return protocol

    def on_handshake_failed(self, error: Exception) -> None:
        if not self.established.done():
            if not isinstance(error, ssl.SSLError):
                error = ssl.SSLError(f"closed during the handshake: {error}")
            self.established.set_exception(error)
