"""What a service has certainly not looked at is sent elsewhere (RFC 9113 section 8.7)."""

from __future__ import annotations

import asyncio

import pytest

from siger_gateway.http2.faults import INTERNAL_ERROR, REFUSED_STREAM
from tests.protocol.http2_peer import HELLO, data, get, goaway, head, post, reset, settings
from tests.protocol.wired2 import Http2Service, Wired2

OK = [(b":status", b"200")]


def asked(wired: Wired2) -> list[Http2Service]:
    """The services with a request that has not been answered."""
    made = [one for dialer in wired.dialers for one in dialer.made]
    return [one for one in made if one.connection.streams]


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize("refusal", [reset(1, REFUSED_STREAM), goaway(0), goaway(0, 11)])
async def test_a_refused_request_goes_to_another_endpoint_with_its_body(refusal: bytes) -> None:
    """Whatever its method: nobody has looked at it."""
    wired = Wired2(attempts=3, endpoints=2)
    client = wired.client()
    client.send(HELLO, post(1, b"/h2"))
    (first,) = asked(wired)
    first.send(refusal)
    (second,) = asked(wired)
    assert second is not first
    client.send(data(1, b"x", ends=True))
    log = second.send(head(1, OK))
    assert log.bodies[1] == b"x"
    assert client.read().status(1) == 200
    client.lose()


async def test_a_goaway_moves_what_it_refuses_and_leaves_the_rest() -> None:
    wired = Wired2(attempts=3, endpoints=2)
    client = wired.client()
    client.send(HELLO, *[get(stream, b"/h2") for stream in (1, 3, 5)])
    old = next(one for one in asked(wired) if len(one.connection.streams) == 2)
    old.send(goaway(1))
    assert old.connection.streams.keys() == {1}
    (other,) = (one for one in asked(wired) if one is not old)
    assert other.connection.streams.keys() == {1, 3}
    old.send(head(1, OK))
    assert old.transport.closing
    other.send(head(1, OK), head(3, OK))
    log = client.read()
    assert [log.status(stream) for stream in (1, 3, 5)] == [200] * 3
    client.lose()


async def test_a_refusal_on_a_connection_that_had_served_goes_to_a_new_one() -> None:
    wired = Wired2(attempts=3, endpoints=2)
    client = wired.client()
    for stream in (1, 3):  # both endpoints serve one
        client.send(HELLO * (stream == 1) + get(stream, b"/h2"))
        (service,) = asked(wired)
        service.send(head(1, OK))
    client.send(post(5, b"/h2"))
    (service,) = asked(wired)
    service.send(reset(3, REFUSED_STREAM))
    await turn()
    (other,) = asked(wired)
    assert other is not service
    client.send(data(5, b"x", ends=True))
    other.send(head(1, OK))
    assert client.read().status(5) == 200
    client.lose()


async def test_a_request_that_may_have_been_looked_at_is_not_repeated() -> None:
    wired = Wired2(attempts=3, endpoints=2)
    client = wired.client()
    client.send(HELLO, post(1, b"/h2"), data(1, b"x", ends=True))
    (service,) = asked(wired)
    service.send(reset(1, INTERNAL_ERROR))
    assert client.read().status(1) == 502
    assert not asked(wired)
    client.lose()


async def test_a_response_that_has_begun_is_not_repeated() -> None:
    wired = Wired2(attempts=3, endpoints=2)
    client = wired.client()
    client.send(HELLO, get(1, b"/h2"))
    (service,) = asked(wired)
    service.send(head(1, OK, ends=False), goaway(0))
    assert client.read().resets == {1: INTERNAL_ERROR}
    assert not asked(wired)
    client.lose()


async def test_streams_above_what_the_service_takes_wait_for_their_turn() -> None:
    wired = Wired2()
    wired.dialer.opening = settings((3, 2)) + wired.dialer.opening[9:]
    client = wired.client()
    client.send(HELLO, *[get(stream, b"/h2") for stream in (1, 3, 5)])
    assert [len(one.connection.streams) for one in asked(wired)] == [2, 1]
    client.lose()
