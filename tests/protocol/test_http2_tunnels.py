"""WebSockets over HTTP/2 in process (RFC 8441): what the service hears, and windows."""

from __future__ import annotations

import asyncio

from siger_gateway.http2.frames import DEFAULT_WINDOW
from tests.protocol.http2_peer import HELLO, Fields, data, head, request
from tests.protocol.wired2 import Client2, Wired2

SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"


def connect(path: bytes, *fields: tuple[bytes, bytes]) -> bytes:
    asked: Fields = [*request(path, method=b"CONNECT"), (b":protocol", b"websocket"), *fields]
    return head(1, asked, ends=False)


def switch(wired: Wired2) -> bytes:
    """The service of HTTP/1.1 agrees; what it has got since."""
    connection, transport, _ = wired.one.made[0]
    connection.data_received(SWITCHED)
    return transport.take()


async def leave(client: Client2) -> None:
    client.connection.connection_lost(None)
    await asyncio.sleep(0)
    for _, transport, _ in client.wired.one.made:
        if transport.closing:  # as a transport would
            transport.protocol.connection_lost(None)  # type: ignore[attr-defined]
    await asyncio.sleep(0)
    assert client.wired.metrics.in_flight == 0


async def test_cookies_reach_a_service_of_http1_in_one_field() -> None:
    """RFC 9113 section 8.2.3; browsers send one field for each."""
    wired = Wired2()
    client = wired.client()
    client.send(HELLO, connect(b"/wait", (b"cookie", b"a=1"), (b"cookie", b"b=2")))
    (asked,) = wired.seen
    assert [value for name, value in asked.headers if name == b"cookie"] == [b"a=1; b=2"]
    await leave(client)


async def test_what_a_client_sends_before_the_answer_is_given_back_as_window() -> None:
    wired = Wired2()
    client = wired.client()
    early = bytes(16000)
    client.send(HELLO, connect(b"/wait"), *[data(1, early)] * 4)
    assert 1 not in client.log.windows, "nobody has taken them"
    assert switch(wired) == early * 4
    log = client.read()
    assert log.status(1) == 200
    assert log.windows[1] >= DEFAULT_WINDOW // 2
    await leave(client)
