"""How connections and streams of HTTP/2 end: drains, timeouts, lingering, and bounds of routes."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from siger_gateway.config.schema import MatchConfig, PoolConfig
from siger_gateway.filters.sizes import size_filter
from siger_gateway.http2.faults import NO_ERROR, PROTOCOL_ERROR
from siger_gateway.http2.frames import ACK, LARGEST_WINDOW, PING
from siger_gateway.http2.run_queue import run_queue
from siger_gateway.proxy.route import ProxyRoute, Route
from siger_gateway.routing.table import RouteTable
from tests.protocol.http2_peer import (
    HELLO,
    SETTINGS_ACK,
    data,
    frame,
    get,
    goaway,
    head,
    post,
    request,
    reset,
    settings,
    window,
)
from tests.protocol.wired2 import BIG, Client2, Wired2

OK = [(b":status", b"200")]


def pong(client: Client2) -> bytes:
    """The answer to the gateway's last PING."""
    return frame(PING, ACK, 0, client.read().pings[-1])


async def test_a_drain_lets_through_what_was_on_its_way_then_says_the_last_stream() -> None:
    """RFC 9113 section 6.8."""
    wired = Wired2()
    client = wired.client()
    client.send(HELLO, get(1, b"/h2"))
    client.connection.drain()
    log = client.read()
    assert log.goaways == [(LARGEST_WINDOW, NO_ERROR)]
    client.send(get(3))  # on its way
    assert log.status(3) == 200
    client.send(pong(client))
    assert log.goaways[1:] == [(3, NO_ERROR)]
    assert not client.transport.ended, "a response is awaited"
    wired.service.send(head(1, OK))
    assert client.read().status(1) == 200
    assert client.transport.closing
    assert not client.transport.aborted
    client.lose()


async def test_a_drain_of_a_connection_at_rest_closes_it_after_a_round_trip() -> None:
    client = Wired2().client()
    client.send(HELLO)
    client.connection.drain()
    assert not client.transport.ended
    log = client.send(pong(client))
    assert log.goaways == [(LARGEST_WINDOW, NO_ERROR), (0, NO_ERROR)]
    assert client.transport.closing
    client.lose()


async def test_a_client_that_does_not_answer_is_not_waited_for() -> None:
    wired = Wired2()
    client = wired.client()
    client.send(HELLO)
    client.connection.drain()
    wired.check(1003.0)
    assert client.read().goaways[-1] == (0, NO_ERROR)
    assert client.transport.closing
    client.lose()


async def test_streams_behind_the_last_goaway_disturb_none_before_it() -> None:
    """RFC 9113 section 6.8: their frames were on their way; the client repeats them elsewhere."""
    wired = Wired2()
    client = wired.client()
    client.send(HELLO, get(1, b"/h2"))
    client.connection.drain()
    client.send(pong(client))
    late = post(3) + data(3, b"x") + window(3, 10) + head(3, [(b"a", b"b")]) + reset(3)
    log = client.send(late, get(5), reset(5))
    assert len(log.goaways) == 2
    assert not log.resets
    wired.service.send(head(1, OK))
    assert client.read().status(1) == 200
    assert set(log.heads) == {1}
    assert client.transport.closing
    client.lose()


async def test_a_fault_during_a_drain_is_the_last_word() -> None:
    wired = Wired2()
    client = wired.client()
    client.send(HELLO, get(1, b"/h2"))
    client.connection.drain()
    client.send(data(99, b"x"))
    assert client.transport.half_closed
    client.connection.close_if_idle(2000.0)
    client.connection.drain()
    wired.check(1002.5)
    assert [code for _, code in client.log.goaways] == [NO_ERROR, PROTOCOL_ERROR]
    client.lose()


@pytest.mark.parametrize("before", [b"GET / HTTP/1.1\r\n\r\n", HELLO + data(1)])
async def test_a_client_that_was_sent_away_is_not_listened_to_any_more(before: bytes) -> None:
    """Nor can it stay, or take memory, by talking on."""
    wired = Wired2()
    client = wired.client()
    client.send(before)
    for _ in range(100):
        client.feed(bytes(65536))
    assert len(client.connection._early) < 100
    wired.listener.now = 1003.5
    client.feed(b"x")
    wired.check(1004.5)
    assert client.transport.aborted
    client.lose()


async def test_the_rest_of_a_response_may_take_its_time_when_the_connection_is_closed() -> None:
    wired = Wired2()
    client = wired.client()
    client.send(HELLO, settings((4, 1 << 30)), window(0, 1 << 30), get(1, b"/wait"))
    client.connection.drain()
    client.send(pong(client))
    client.send(reset(1))
    assert client.transport.closing
    wired.check(1020.0)
    assert not client.transport.aborted
    wired.check(1080.0)
    assert client.transport.aborted
    client.lose()


async def test_a_response_that_is_not_taken_ends_after_a_while() -> None:
    wired = Wired2()
    client = wired.client()
    client.send(HELLO, settings((4, 10)), get(1, b"/big"), get(3, b"/h2"))
    wired.check(1076.5)
    log = client.read()
    assert set(log.resets) == {1}
    assert wired.closed == {"client_stalled": 1}
    assert not client.connection.turns
    wired.service.send(head(1, OK))
    assert client.read().status(3) == 200, "other streams go on"
    client.lose()


@pytest.mark.parametrize("drip", [window(1, 1), settings((4, 10)), window(0, 1000)])
async def test_a_client_cannot_hold_a_response_by_taking_it_in_drips(drip: bytes) -> None:
    wired = Wired2()
    client = wired.client()
    client.send(HELLO, settings((4, 10)), get(1, b"/big"))
    for second in range(1001, 1078):
        wired.check(float(second))
        client.send(drip)
    assert set(client.log.resets) == {1}
    assert wired.closed["client_stalled"] == 1
    client.lose()


async def test_a_client_may_be_slow_as_long_as_it_takes_something() -> None:
    wired = Wired2()
    client = wired.client()
    client.send(HELLO, settings((4, 10)), get(1, b"/big"))
    for second in range(1001, 1500):
        wired.check(float(second))
        client.send(window(1, 100))
    assert not client.log.resets
    assert client.log.bodies[1] == BIG[: 10 + 499 * 100]
    client.lose()


async def test_a_socket_that_takes_nothing_ends_the_connection() -> None:
    wired = Wired2()
    client = wired.client(high=100_000)
    client.send(HELLO, settings((4, 1 << 30)), window(0, 1 << 30))
    client.feed(get(1, b"/big"))
    wired.pump()
    assert not client.transport.reading
    wired.check(1070.0)
    assert not client.transport.aborted
    wired.check(1077.0)
    assert client.transport.aborted
    assert wired.closed == {"client_stalled": 1}
    client.lose()


async def test_a_body_that_stops_is_a_timeout() -> None:
    wired = Wired2()
    client = wired.client()
    client.send(HELLO, post(1), data(1, b"x"))
    wired.check(1077.0)
    assert client.read().status(1) == 408
    client.lose()


async def test_a_body_that_creeps_is_a_timeout_too() -> None:
    """``limits.body_rate``: each of many slow ones would hold a connection to a service."""
    wired = Wired2()
    wired.listener.limits = replace(wired.listener.limits, body_rate=100)
    client = wired.client()
    client.send(HELLO, post(1), post(3))
    for second in range(1001, 1080):
        wired.check(float(second))
        client.send(data(1, b"x") if 1 not in client.log.ended else b"", data(3, bytes(200)))
    assert client.log.status(1) == 408
    assert client.log.status(3) == 0, "fast enough"
    client.lose()


async def test_a_header_block_or_an_acknowledgement_that_does_not_come_ends_the_connection() -> (
    None
):
    wired = Wired2()
    slow, silent = wired.client(), wired.client()
    slow.send(HELLO, head(1, request(), whole=False))
    wired.check(1012.0)
    assert [code for _, code in slow.read().goaways] == [11]
    assert [code for _, code in silent.read().goaways] == [4]
    slow.lose()
    silent.lose()


async def test_an_idle_connection_is_told_and_closed() -> None:
    wired = Wired2()
    client = wired.client()
    client.send(HELLO, get(1))
    wired.check(1070.0)
    assert not client.read().goaways
    wired.check(1077.0)
    client.send(pong(client))
    assert client.log.goaways == [(LARGEST_WINDOW, NO_ERROR), (1, NO_ERROR)]
    assert wired.closed == {"idle_timeout": 1}
    client.lose()


async def test_the_limit_of_a_route_holds_for_bodies_of_unknown_length() -> None:
    wired = Wired2()
    route = wired.dispatcher.table.match(b"POST", b"/", {})
    assert isinstance(route, ProxyRoute)
    limited: Route = replace(route, filters=(size_filter(10, 0),))
    wired.dispatcher.table = RouteTable([(MatchConfig(path_prefix="/"), limited)])
    client = wired.client()
    log = client.send(HELLO, post(1), data(1, bytes(10)), data(1, b"x"))
    assert log.status(1) == 413
    assert log.resets == {1: NO_ERROR}
    client.send(post(3), data(3, bytes(10), ends=True))
    assert log.status(3) == 200
    client.lose()


async def test_fields_reach_the_service_as_http1_has_them() -> None:
    """RFC 9113 section 8.2.3: one cookie; and a length that nobody reads as octal."""
    wired = Wired2()
    client = wired.client()
    crumbs = [(b"cookie", b"a=1"), (b"cookie", b""), (b"cookie", b"b=2")]
    client.send(HELLO, head(1, request(b"/?q", *crumbs)))
    length = (b"content-length", b"0010")
    client.send(head(3, request(b"/", length, method=b"PUT"), ends=False))
    client.send(data(3, bytes(10), ends=True))
    first, second = wired.seen
    assert [value for name, value in first.headers if name == b"cookie"] == [b"a=1; b=2"]
    assert first.target == b"/?q"
    assert second.fields[b"content-length"] == b"10"
    client.lose()


async def test_a_client_that_waits_for_100_gets_it_once_and_none_behind_an_answer() -> None:
    wired = Wired2()
    client = wired.client()
    expects = (b"expect", b"100-continue")
    log = client.send(HELLO, post(1, b"/h2", expects), post(3, b"/early", expects))
    assert [fields[0][1] for fields in log.heads[1]] == [b"100"]
    assert [fields[0][1] for fields in log.heads[3]] == [b"100", b"200"]
    client.send(post(5, b"/../..", expects))
    assert [fields[0][1] for fields in log.heads[5]] == [b"400"]
    client.lose()


async def test_a_client_that_leaves_is_accounted_and_its_services_are_told() -> None:
    wired = Wired2()
    client = wired.client()
    client.send(HELLO, get(1, b"/h2"), get(3, b"/wait"), post(5, b"/h2"), get(7), goaway())
    assert wired.metrics.in_flight == 3
    client.lose()
    assert wired.service.log_from().resets == {1: 8, 3: 8}
    assert wired.one.made[0][0].closed


@pytest.mark.parametrize("how", ["fault", "cut"])
async def test_what_streams_say_while_their_connection_ends_disturbs_nothing(how: str) -> None:
    """The first stream's end lets the second one go on, which still has to hear of its own."""
    wired = Wired2(pool=PoolConfig(max_connections=1))
    wired.dialer.opening = settings((3, 1)) + SETTINGS_ACK
    client = wired.client()
    client.send(HELLO, post(1, b"/h2"), post(3, b"/h2"), *[data(3, bytes(16384))] * 3)
    assert wired.two.pending == 1
    if how == "fault":
        client.send(data(99, b"x"))
        assert client.transport.half_closed
    else:
        client.connection.cut()
    assert wired.metrics.in_flight == 0
    assert wired.two.pending == 0
    client.connection.flush()
    client.lose()
    assert not wired.service.connection.streams


async def test_trailers_end_a_websocket_of_a_service() -> None:
    """They cannot be passed on; but the exchange must not last for ever."""
    wired = Wired2()
    wired.dialer.opening = settings((8, 1)) + SETTINGS_ACK
    client = wired.client()
    asked = [*request(b"/h2", method=b"CONNECT"), (b":protocol", b"websocket")]
    client.send(HELLO, head(1, asked, ends=False))
    service = wired.service
    service.send(head(1, OK, ends=False), data(1, b"hi"))
    assert client.read().bodies[1] == b"hi"
    service.send(head(1, [(b"a", b"b")]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert wired.metrics.in_flight == 0
    assert not client.connection.streams
    client.lose()


async def test_an_answer_is_passed_on_of_a_service_that_closes_right_behind_it() -> None:
    wired = Wired2()
    client = wired.client()
    client.send(HELLO, get(1, b"/h2"))
    connection = wired.service.connection
    connection.data_received(head(1, OK))
    connection.connection_lost(None)
    assert client.read().status(1) == 200
    client.lose()


async def test_what_http2_has_read_waits_for_its_turn_only_while_http1_is_spoken() -> None:
    wired = Wired2()
    client = wired.client()
    client.send(HELLO)
    wired.client1()[0].data_received(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
    wired.check(1001.0)
    client.connection.data_received(get(1))
    assert not client.connection.streams
    run_queue().settle()
    assert client.connection.streams
    wired.listener.connections.clear()
    wired.check(1100.0)
    client.connection.data_received(get(3))
    assert len(client.connection.streams) == 2
    client.connection.cut()


async def test_what_is_for_http1_does_not_wait_in_turns_with_http2() -> None:
    wired = Wired2()
    client = wired.client()
    client.send(HELLO, get(1, b"/h2"))
    connection, transport = wired.client1()
    connection.data_received(b"GET /h2 HTTP/1.1\r\nHost: a\r\n\r\n")
    run_queue().settle()
    run_queue().yields = True
    service = wired.service.connection
    service.data_received(head(3, OK))
    assert transport.take().startswith(b"HTTP/1.1 200 ")
    client.feed(get(3, b"/h2"))
    service.data_received(head(5, OK))
    assert 3 not in client.read().heads
    run_queue().settle()
    assert client.read().status(3) == 200
    client.lose()
