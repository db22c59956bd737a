"""Authorities and certificates for the TLS tests, made on the spot; clients that look closely."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

from tests.running import BOUND

NAME = "gateway.test"
EXPIRED = datetime(2020, 1, 1, tzinfo=UTC)
"""An end of validity that is over."""


class Authority:
    """A CA whose files stand in ``folder``."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.folder = folder
        self.ca = trustme.CA()
        self.file = folder / f"{name}.pem"
        self.ca.cert_pem.write_to_path(self.file)

    def issue(
        self,
        file: str,
        *names: str,
        not_after: datetime | None = None,
        user: str | None = None,
        organization: str | None = None,
        key_type: trustme.KeyType = trustme.KeyType.ECDSA,
    ) -> tuple[Path, Path]:
        """Writes ``<file>.pem`` and ``<file>.key``; the same name again replaces them.

        :param user: the common name.
        """
        not_after = not_after or datetime.now(UTC) + timedelta(days=90)
        issued = self.ca.issue_cert(
            *names,
            common_name=user,
            organization_name=organization,
            not_after=not_after,
            not_before=_before(not_after),
            key_type=key_type,
        )
        cert, key = self.folder / f"{file}.pem", self.folder / f"{file}.key"
        new_cert, new_key = self.folder / f"{file}.pem.new", self.folder / f"{file}.key.new"
        new_cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(new_key)
        new_cert.replace(cert)
        new_key.replace(key)
        return cert, key

    def client(self, pair: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        """What a client that trusts this authority connects with."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.file)
        if pair is not None:
            context.load_cert_chain(*pair)
        return context

    def server(self, pair: tuple[Path, Path]) -> ssl.SSLContext:
        """What a service with this certificate listens with."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*pair)
        return context


def _before(not_after: datetime) -> datetime:
    return not_after - timedelta(days=365)


async def presented(port: int, context: ssl.SSLContext, name: str | None = NAME) -> tuple[str, ...]:
    """The DNS names of the certificate that the gateway shows to a client that asks for ``name``.
    The chain is verified, the name is not."""
    context.check_hostname = False
    async with asyncio.timeout(BOUND):
        _, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname=name or ""
        )
    certificate = writer.get_extra_info("peercert")
    writer.transport.abort()
    return tuple(value for kind, value in certificate["subjectAltName"] if kind == "DNS")


@dataclass
class Seen:
    """What a client saw of one connection. ``whole``: it ended with close_notify."""

    received: bytes
    whole: bool
    session: ssl.SSLSession | None
    resumed: bool


async def look(
    port: int, context: ssl.SSLContext, request: bytes, session: ssl.SSLSession | None = None
) -> Seen:
    """Sends ``request`` and reads to the end of the stream."""
    return await asyncio.to_thread(_look, port, context, request, session)


def _look(
    port: int, context: ssl.SSLContext, request: bytes, session: ssl.SSLSession | None
) -> Seen:
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    received, whole = b"", True
    with (
        socket.create_connection(("127.0.0.1", port), BOUND) as plain,
        context.wrap_socket(
            plain, server_hostname=NAME, suppress_ragged_eofs=False, session=session
        ) as tls,
    ):
        tls.sendall(request)
        try:
            while data := tls.recv(65536):
                received += data
        except (ssl.SSLEOFError, ConnectionError):
            whole = False
        return Seen(received, whole, tls.session, bool(tls.session_reused))
