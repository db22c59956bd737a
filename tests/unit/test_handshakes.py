"""The end of a listening socket, on the real kernel: only that knows what becomes of them."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack

import pytest

from siger_gateway.listener import handshakes


def listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0), backlog=128)


def test_what_was_established_before_is_accepted_with_what_was_sent() -> None:
    with ExitStack() as stack:
        server = stack.enter_context(listening())
        clients = [
            stack.enter_context(socket.create_connection(server.getsockname())) for _ in range(50)
        ]
        for number, client in enumerate(clients):
            client.sendall(b"%d" % number)
        handshakes.stop(server)
        accepted = [stack.enter_context(one) for one in handshakes.take_queue(server)]
        for one in accepted:
            one.setblocking(True)
        assert [one.recv(10) for one in accepted] == [b"%d" % number for number in range(50)]
        assert server.fileno() == -1
        accepted[0].sendall(b"answer")
        assert clients[0].recv(10) == b"answer"


def test_no_handshake_begins_after_the_stop() -> None:
    with listening() as server, socket.socket() as client:
        handshakes.stop(server)
        client.setblocking(False)
        # On the loopback interface a handshake ends within the call.
        assert client.connect_ex(server.getsockname()) == errno.EINPROGRESS
        assert handshakes.take_queue(server) == []
        with pytest.raises(OSError, match="not connected"):
            client.getpeername()


def test_a_client_that_was_made_to_wait_gets_to_the_next_listener() -> None:
    with socket.socket() as old, socket.socket() as new, socket.socket() as client:
        for server in (old, new):
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        old.bind(("127.0.0.1", 0))
        old.listen()
        handshakes.stop(old)
        client.settimeout(10)
        client.setblocking(False)
        assert client.connect_ex(old.getsockname()) == errno.EINPROGRESS
        new.bind(old.getsockname())
        new.listen()
        assert handshakes.take_queue(old) == []
        new.settimeout(10)  # the client repeats its packet after a second
        accepted, address = new.accept()
        with accepted:
            assert address == client.getsockname()
