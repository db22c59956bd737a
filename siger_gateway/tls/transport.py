"""A TLS connection, as an asyncio transport over a plain one.

    plain transport  <->  TlsTransport  <->  the protocol that speaks HTTP

OpenSSL works on two buffers in memory; this feeds what arrives into one and sends what stands in
the other. Flow control needs no buffers of its own: all that has arrived is decrypted at once and
handed on, what is written is encrypted at once, and the plain transport's limits, pauses and close
are those of the connection.

It exists because uvloop's own TLS does not tell of failed handshakes, takes the context when the
listener is made instead of when a connection comes, cannot tell a connection that was cut off from
one that was closed, cannot close one direction, and keeps 256 KiB for each connection.

A stream that ends without ``close_notify`` was cut off, maybe by an attacker (RFC 8446 section 6.1;
RFC 9112 section 9.8): ``connection_lost`` gets an error then. ``abort`` does just that to the peer.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final, Protocol, cast

RECORD: Final = 16 * 1024
"""Bytes of content in a TLS record, at most (RFC 8446 section 5.1): what one read can give."""
PIECE: Final = 64 * 1024
"""Bytes that pass through OpenSSL's buffers at a time: they keep the size that they once had."""
MAX_UNREAD: Final = 1024 * 1024
"""Bytes waiting for a peer that does not read, at which it gets no more answers to requests of TLS
itself (key updates); our own content is held back far below this."""


class HandshakeOwner(Protocol):
    """Told, once, how the handshake ended."""

    def on_handshake_done(self, transport: TlsTransport) -> asyncio.BaseProtocol:
        """Who speaks on the connection from now on; its ``connection_made`` comes next."""

    def on_handshake_failed(self, error: Exception) -> None:
        """An ``ssl.SSLError``, or an ``OSError`` when the peer went away. The connection closes."""


class TlsTransport(asyncio.Transport, asyncio.Protocol):
    """TLS over one plain connection.

    Made with ``server_side`` or ``client_side``, it begins with ``connection_made``.
    """

    __slots__ = (
        "_closing",
        "_eof_received",
        "_eof_sent",
        "_error",
        "_handshaking",
        "_incoming",
        "_outgoing",
        "_owner",
        "_plain",
        "_protocol",
        "_ssl",
    )

    def __init__(
        self,
        owner: HandshakeOwner,
        ssl_object: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
    ) -> None:
        super().__init__()
        self._owner: HandshakeOwner | None = owner
        self._ssl = ssl_object
        self._incoming = incoming
        self._outgoing = outgoing
        self._plain: asyncio.Transport = cast(asyncio.Transport, None)  # until connection_made
        self._protocol: asyncio.Protocol = cast(asyncio.Protocol, None)  # until the handshake ends
        self._handshaking = True
        self._closing = False  # nothing is read or written any more
        self._eof_received = False  # close_notify
        self._eof_sent = False
        self._error: Exception | None = None

    @classmethod
    def server_side(cls, context: ssl.SSLContext, owner: HandshakeOwner) -> TlsTransport:
        """For an accepted connection."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        return cls(owner, context.wrap_bio(incoming, outgoing, True), incoming, outgoing)

    @classmethod
    def client_side(
        cls, context: ssl.SSLContext, owner: HandshakeOwner, server_name: str
    ) -> TlsTransport:
        """For an opened connection.

        :param server_name: a host name or an IP address; only a name is sent as SNI.
        """
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        wrapped = context.wrap_bio(incoming, outgoing, False, server_name)
        return cls(owner, wrapped, incoming, outgoing)

    def __repr__(self) -> str:
        state = "closing" if self._closing else "handshaking" if self._handshaking else "open"
        return f"<TlsTransport {state}>"

    # The plain transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._plain = cast(asyncio.Transport, transport)
        self._handshake()  # a client speaks first

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        if len(data) <= PIECE:
            self._incoming.write(data)
            self._advance()
            return
        view = memoryview(data)
        for start in range(0, len(data), PIECE):
            self._incoming.write(view[start : start + PIECE])
            self._advance()
            if self._closing:
                return

    def _advance(self) -> None:
        if self._handshaking:
            self._handshake()
        if not self._handshaking and not self._closing and not self._eof_received:
            self._read()

    def _handshake(self) -> None:
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            self._send_pending()
            return
        except ssl.SSLError as error:
            self._send_pending()  # the alert
            self._fail_handshake(error)
            self._plain.close()
            return
        self._send_pending()
        self._handshaking = False
        owner, self._owner = self._owner, None
        assert owner is not None
        self._protocol = cast(asyncio.Protocol, owner.on_handshake_done(self))
        self._protocol.connection_made(self)

    def _fail_handshake(self, error: Exception) -> None:
        self._closing = True
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.on_handshake_failed(error)

    def _read(self) -> None:
        incoming, connection = self._incoming, self._ssl
        pieces: list[bytes] = []
        ended = False
        error: ssl.SSLError | None = None
        try:
            while True:
                piece = connection.read(RECORD)
                if not piece:
                    ended = True
                    break
                pieces.append(piece)
                if not incoming.pending and not connection.pending():
                    break  # the usual end; the exception below costs more
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            ended = True
        except ssl.SSLError as failure:
            error = failure
        if self._outgoing.pending:  # a key update, an alert
            self._send_pending()
            if self._plain.get_write_buffer_size() > MAX_UNREAD:
                self.abort()
                return
        if pieces:
            self._protocol.data_received(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if error is not None:
            self._break(error)
        elif ended:
            self._eof_received = True
            if not self._closing and not self._protocol.eof_received():
                self.close()

    def _break(self, error: Exception) -> None:
        """The peer, or somebody between us, has sent what is no TLS."""
        self._error = error
        self._closing = True
        self._plain.close()

    def _send_pending(self) -> None:
        if self._outgoing.pending:
            data = self._outgoing.read()
            if not self._eof_sent and not self._plain.is_closing():
                self._plain.write(data)

    def eof_received(self) -> bool:
        """The end of the plain stream; after ``close_notify`` it says nothing new."""
        if self._handshaking:
            self._fail_handshake(ConnectionResetError("closed during the handshake"))
        elif not self._eof_received and not self._closing:
            self._error = ConnectionResetError("the stream ended without close_notify")
            self._protocol.eof_received()
            return False
        return not self._closing

    def connection_lost(self, exc: Exception | None) -> None:
        self._closing = True
        if self._handshaking:
            self._fail_handshake(exc or ConnectionResetError("closed during the handshake"))
        else:
            protocol, self._protocol = self._protocol, cast(asyncio.Protocol, None)
            # After close_notify nothing can have been missed, whatever became of our answer to it.
            protocol.connection_lost(self._error or (None if self._eof_received else exc))

    def pause_writing(self) -> None:
        if not self._handshaking:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        if not self._handshaking:
            self._protocol.resume_writing()

    # The transport's side.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing or self._eof_sent or not data:
            return
        try:
            if len(data) <= PIECE:
                self._ssl.write(data)
            else:
                view = memoryview(data)
                for start in range(0, len(data), PIECE):
                    if start:
                        self._plain.write(self._outgoing.read())
                    self._ssl.write(view[start : start + PIECE])
        except ssl.SSLError as error:
            self._break(error)
            return
        self._plain.write(self._outgoing.read())

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Ends our direction; what the peer still sends is read (RFC 8446 section 6.1)."""
        if self._closing or self._eof_sent:
            return
        self._send_close_notify()
        self._eof_sent = True
        self._plain.write_eof()

    def _send_close_notify(self) -> None:
        with suppress(ssl.SSLError):  # SSLWantReadError: the peer's is not waited for
            self._ssl.unwrap()
        self._send_pending()

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        if not self._handshaking and not self._eof_sent:
            self._send_close_notify()
        self._plain.close()

    def abort(self) -> None:
        """Closes without ``close_notify``: the peer can see that something is missing."""
        self._closing = True
        self._plain.abort()

    def is_closing(self) -> bool:
        return self._closing or self._plain.is_closing()

    def pause_reading(self) -> None:
        if not self._closing:
            self._plain.pause_reading()

    def resume_reading(self) -> None:
        if not self._closing:
            self._plain.resume_reading()

    def is_reading(self) -> bool:
        return self._plain.is_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._plain.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return self._plain.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._plain.get_write_buffer_limits()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``ssl_object`` and whatever the plain transport knows."""
        return self._ssl if name == "ssl_object" else self._plain.get_extra_info(name, default)
