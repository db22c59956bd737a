"""gRPC-Web through the gateway in process: a response that breaks off must not look whole."""

from __future__ import annotations

import pytest

from siger_gateway.grpc.framing import frame as message
from siger_gateway.http2.faults import INTERNAL_ERROR
from tests.protocol.http2_peer import HELLO, data, head, request, reset
from tests.protocol.wired2 import Wired2

CALL = head(
    1,
    request(b"/h2/M", (b"content-type", b"application/grpc-web+proto"), method=b"POST"),
    ends=False,
)
GRPC = [(b":status", b"200"), (b"content-type", b"application/grpc")]


@pytest.mark.parametrize("ends", [reset(1, 2), head(1, [(b"grpc-status", b"0")])])
@pytest.mark.parametrize("part", [b"\0", b"\0\0\0\0\5", b"\0\0\0\0\5hell"])
async def test_a_response_that_breaks_off_within_a_message_has_no_trailers(
    part: bytes, ends: bytes
) -> None:
    """They would be read as the rest of the message."""
    wired = Wired2()
    client = wired.client()
    client.send(HELLO, CALL, data(1, message(b""), ends=True))
    wired.service.send(head(1, GRPC, ends=False), data(1, message(b"hello") + part), ends)
    log = client.read()
    assert log.bodies[1] == message(b"hello") + part
    assert log.resets == {1: INTERNAL_ERROR}
    client.lose()


async def test_a_response_that_breaks_off_between_messages_says_why() -> None:
    wired = Wired2()
    client = wired.client()
    client.send(HELLO, CALL, data(1, message(b""), ends=True))
    wired.service.send(head(1, GRPC, ends=False), data(1, message(b"hello")[:7]))
    wired.service.send(data(1, message(b"hello")[7:]), reset(1, 2))
    log = client.read()
    assert log.bodies[1].startswith(message(b"hello") + b"\x80\0\0")
    assert b"grpc-status: 14\r\n" in log.bodies[1]
    assert 1 in log.ended
    client.lose()
