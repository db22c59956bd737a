"""The service that echoes WebSocket messages for the benchmark, and who takes part in what."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.contenders.contender import Duty
from benchmarks.contenders.lineup import contenders
from benchmarks.websocket_echo import Echo, accept, masked

HANDSHAKE = (
    b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
ACCEPTED = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
HELLO = b"\x82\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"
"""A masked "Hello", as in RFC 6455 section 5.7 but binary."""


class Written(asyncio.Transport):
    """What the service has written."""

    def __init__(self) -> None:
        super().__init__()
        self.data = b""
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.data += data

    def abort(self) -> None:
        self.aborted = True


def test_keys_and_masks_are_those_of_the_standard() -> None:
    assert accept(b"dGhlIHNhbXBsZSBub25jZQ==") == ACCEPTED  # section 1.3
    assert masked(b"Hello", HELLO[2:6]) == HELLO[6:]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_messages_are_echoed_in_whatever_pieces_they_come(size: int) -> None:
    written, echo = Written(), Echo()
    echo.connection_made(written)
    data = HANDSHAKE + HELLO + HELLO
    for start in range(0, len(data), size):
        echo.data_received(data[start : start + size])
    head, _, messages = written.data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert ACCEPTED in head
    assert messages == 2 * b"\x82\x05Hello"


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", HANDSHAKE + b"\x88\x80abcd"]
)
def test_what_is_no_message_ends_the_connection(data: bytes) -> None:
    written, echo = Written(), Echo()
    echo.connection_made(written)
    echo.data_received(data)
    assert written.aborted


def test_whoever_has_policies_says_what_they_are() -> None:
    guarded = [each for each in contenders() if Duty.POLICIES in each.duties]
    assert {"siger", "nginx", "haproxy", "envoy", "traefik", "caddy"} <= {
        one.name for one in guarded
    }
    assert all(each.note for each in guarded)
