"""HTTP/2 in process: every case of the tables, in pieces and byte by byte."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from siger_gateway.http2.faults import code_name
from tests.protocol import http2_bodies, http2_frames, http2_messages, http2_states
from tests.protocol.http2_cases import GOES_ON, ServerCase
from tests.protocol.http2_peer import get
from tests.protocol.wired2 import Client2, Wired2

CASES = http2_states.CASES + http2_frames.CASES + http2_messages.CASES + http2_bodies.CASES

NEXT = 1001
"""A stream id above those of all cases."""


def whole(client: Client2, piece: bytes) -> None:
    client.feed(piece)


def byte_by_byte(client: Client2, piece: bytes) -> None:
    for byte in piece:
        client.feed(bytes([byte]))


@pytest.mark.parametrize("feed", [whole, byte_by_byte])
@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_client_is_answered_reset_or_sent_away_as_the_rfc_has_it(
    case: ServerCase, feed: Callable[[Client2, bytes], None]
) -> None:
    wired = Wired2()
    client = wired.client()
    for piece in case.sent:
        feed(client, piece)
        wired.pump()
    log = client.read()
    assert [code for _, code in log.goaways] == ([] if case.code == GOES_ON else [case.code])
    assert {stream: log.status(stream) for stream in case.statuses} == case.statuses
    if case.code == GOES_ON:
        assert log.resets == case.resets
        assert not client.transport.ended
        client.send(get(NEXT))
        assert (log.status(NEXT), log.bodies[NEXT]) == (200, b"ok")
        served = sum(200 <= log.status(stream) < 300 for stream in log.heads) - 1
        assert len(wired.seen) >= served
        assert not client.connection.streams.keys() & log.resets.keys()
    else:
        assert client.transport.half_closed
        assert not client.connection.streams
        assert wired.closed == {f"http2_{code_name(case.code)}": 1}
        assert wired.metrics.in_flight == 0, "the service's work is told when it is in vain"
    client.lose()


async def test_every_case_has_a_name_of_its_own() -> None:
    names = [str(case) for case in CASES]
    assert len(set(names)) == len(names)
