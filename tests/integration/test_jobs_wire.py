"""The direct way through nats-py: whatever the pieces in which the bytes come, the messages are
the same; and every request has exactly one outcome."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import nats
import nats.errors
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nats.aio.client import Client

from siger_gateway.jobs.wire import NoAnswer, Wire, fields_of, status_of
from tests.nats_server import NatsServer

BYTES = (
    b"MSG a.b 7 5\r\nhello\r\n"
    b"PING\r\n"
    b"MSG a.b 7 reply.to 0\r\n\r\n"
    b"HMSG a.c 7 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"
    b"+OK\r\n"
    b"HMSG a.c 7 r 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"
    b"MSG other 8 4\r\n\r\n\r\n\r\n"
    b"MSG a.d 7 12\r\nMSG x 7 1\r\n\r\n\r\n"
)
MESSAGES = [
    (b"a.b", b"", b"", b"hello"),
    (b"a.b", b"reply.to", b"", b""),
    (b"a.c", b"", b"NATS/1.0\r\n\r\n", b"hi"),
    (b"a.c", b"r", b"NATS/1.0 503\r\n\r\n", b""),
    (b"a.d", b"", b"", b"MSG x 7 1\r\n\r"[:12]),
]


class Told(Client):  # type: ignore[misc]
    """A client that was never connected, and notes what comes the usual way."""

    def __init__(self) -> None:
        super().__init__()
        self.usual: list[tuple[Any, ...]] = []

    async def _process_msg(self, *message: Any) -> None:
        self.usual.append(message)

    async def _process_ping(self) -> None:
        self.usual.append(("ping",))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, len(BYTES) - 1), max_size=12))
async def test_messages_do_not_depend_on_the_pieces_in_which_they_come(cuts: list[int]) -> None:
    client = Told()
    wire = Wire(client)
    taken: list[tuple[bytes, ...]] = []
    wire._sinks[b"7"] = lambda *message: taken.append(message)
    edges = [0, *sorted(set(cuts)), len(BYTES)]
    for start, end in pairwise(edges):
        await wire.parse(BYTES[start:end])
    assert taken == MESSAGES
    assert client.usual == [("ping",), (8, b"other", b"", b"\r\n\r\n", b"")]


async def test_a_long_message_comes_whole() -> None:
    wire = Wire(Told())
    taken: list[bytes] = []
    wire._sinks[b"1"] = lambda *message: taken.append(message[3])
    payload = bytes(range(256)) * 4096
    stream = b"MSG a 1 %d\r\n%b\r\nMSG a 1 1\r\nx\r\n" % (len(payload), payload)
    for start in range(0, len(stream), 1000):
        await wire.parse(stream[start : start + 1000])
    assert taken == [payload, b"x"]


@pytest.mark.parametrize("line", [b"MSG a 1 x\r\n", b"MSG\r\n", b"HMSG a 1 x 2\r\n"])
async def test_what_is_no_message_ends_the_connection(line: bytes) -> None:
    with pytest.raises(nats.errors.ProtocolError):
        await Wire(Told()).parse(line)


def test_header_blocks() -> None:
    assert status_of(b"NATS/1.0 100 Idle Heartbeat\r\nA: b\r\n\r\n") == b"100"
    assert status_of(b"NATS/1.0\r\nA: b\r\n\r\n") == status_of(b"") == b""
    assert fields_of(b"NATS/1.0 100 Idle Heartbeat\r\nA: b:c\r\n\r\n") == {b"A": b"b:c"}


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    with NatsServer() as server:
        client = await nats.connect(server.address)
        wire = Wire(client)
        await wire.open()
        yield wire
        await client.close()


async def test_each_of_many_requests_gets_its_own_answer(wire: Wire) -> None:
    async def echo(message: Any) -> None:
        await message.respond(message.data + message.headers["N"].encode())

    await wire._client.subscribe("echo", cb=echo)
    answers = await asyncio.gather(
        *(wire.request("echo", b"%d-" % n, 5.0, {"N": str(n)}) for n in range(500))
    )
    assert answers == [b"%d-%d" % (n, n) for n in range(500)]
    assert not wire._waiting


async def test_a_request_that_nobody_takes_says_so(wire: Wire) -> None:
    with pytest.raises(nats.errors.NoRespondersError):
        await wire.request("nobody.is.here", b"", 5.0, {})


async def test_a_request_without_an_answer_ends_with_its_time(wire: Wire) -> None:
    async def silent(message: Any) -> None: ...

    await wire._client.subscribe("silent", cb=silent)
    patient = wire.request("silent", b"", 60.0, {})
    with pytest.raises(NoAnswer):
        await wire.request("silent", b"", 0.01, {})
    assert not patient.done()
    wire.give_up()
    with pytest.raises(NoAnswer):
        await patient
    assert not wire._waiting


async def test_a_message_that_is_too_large_is_not_sent(wire: Wire) -> None:
    sent = wire._client.stats["out_msgs"]
    with pytest.raises(nats.errors.MaxPayloadError):
        await wire.request("large", b"x" * wire._client.max_payload, 5.0, {"A": "b"})
    assert wire._client.stats["out_msgs"] == sent
    assert not wire._waiting
