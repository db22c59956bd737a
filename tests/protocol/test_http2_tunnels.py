"""WebSockets over HTTP/2 in process (RFC 8441): what the service hears, and windows."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import settings as settings_of
from hypothesis import strategies as st

from siger_gateway.http2.frames import DEFAULT_WINDOW
from tests.protocol.http2_peer import (
    HELLO,
    SETTINGS_ACK,
    Fields,
    data,
    goaway,
    head,
    request,
    reset,
    settings,
    window,
)
from tests.protocol.wired2 import Client2, Wired2

SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"

NOT_SWITCHED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"


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


# Random tunnels.

CASES = int(os.environ.get("SIGER_FUZZ_CASES", "120"))
DERANDOMIZE = "SIGER_FUZZ_CASES" not in os.environ
SIZE = st.sampled_from([1, 100, 5000, 16384, 16384])
Action = tuple[str, int]
SAYS = st.tuples(st.sampled_from(["client says", "service says"]), SIZE)
READS = st.tuples(st.sampled_from(["client reads", "client opens", "service opens"]), SIZE)
SHUTS = st.tuples(
    st.sampled_from(["client shuts", "service shuts", "client ends", "service ends"]), st.just(0)
)
BREAKS = st.tuples(
    st.sampled_from(
        [
            *("client resets", "service resets", "client says more", "service says more"),
            *("minute", "drain", "cut", "service goes", "service leaves"),
        ]
    ),
    st.just(0),
)
HARMLESS = st.lists(st.one_of(SAYS, SAYS, READS, SHUTS), max_size=20)
ACTIONS = st.one_of(HARMLESS, st.lists(st.one_of(SAYS, SAYS, READS, SHUTS, BREAKS), max_size=20))


FIGURES = Counter[str]()


class World:
    """A WebSocket between a client and a service, of either version of HTTP, not answered yet."""

    def __init__(self, path: bytes) -> None:
        self.errors: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, what: self.errors.append(what))
        self.wired = Wired2()
        self.wired.dialer.opening = settings((8, 1), (4, 3000)) + SETTINGS_ACK
        self.client = self.wired.client(high=20_000)
        self.now = 1000.0
        self.said = {"client": b"", "service": b""}
        self.begun = False
        self.broken = False  # nobody may expect the rest of what the other has said
        self.ended: set[str] = set()
        self.client.send(HELLO, settings((4, 3000)), connect(path))
        self.one = path == b"/wait"

    def answer(self, *, agrees: bool) -> None:
        self.begun = agrees
        if self.one:
            self.service_sends(SWITCHED if agrees else NOT_SWITCHED)
        else:
            self.service_sends(head(1, [(b":status", b"200" if agrees else b"403")], ends=False))

    def service_sends(self, piece: bytes) -> None:
        if self.one:
            transport = self.wired.one.made[0][1]
            if not transport.closing:
                transport.protocol.data_received(piece)  # type: ignore[attr-defined]
        else:
            self.wired.service.send(piece)

    def service_heard(self) -> bytes:
        if self.one:
            self.raw = getattr(self, "raw", b"") + self.wired.one.made[0][1].take()
            return self.raw
        return self.wired.service.log_from().bodies.get(1, b"")

    def do(self, what: str, size: int) -> None:
        who, _, verb = what.partition(" ")
        if not self.begun and (verb == "ends" or what == "service says"):
            self.broken = True  # it is not one yet
        sends = self.client.feed if who == "client" else self.service_sends
        if who in self.ended and verb in ("says", "ends", "says more"):
            return
        if verb == "says":
            size = min(size, self.window(who))
            piece = random.Random(len(self.said[who])).randbytes(size)
            self.said[who] += piece
            sends(piece if self.one and who == "service" else data(1, piece))
        elif verb == "ends":
            self.ended.add(who)
            if self.one and who == "service":
                self.service_lost(eof=True)
            else:
                sends(data(1, ends=True))
        elif verb == "reads":
            self.client.read()
        elif who in ("client", "service") and verb != "goes" and verb != "leaves":
            if self.one and who == "service":
                return
            if verb in ("resets", "says more"):
                self.broken = True
            sends(
                {
                    "opens": window(1, 10 * size) + window(0, 10 * size),
                    "shuts": settings((4, 0)),
                    "resets": reset(1),
                    "says more": head(1, [(b"a", b"b")]),
                }[verb]
            )
        else:
            self.broken = True
            self.rest(what)

    def rest(self, what: str) -> None:
        if what == "minute":
            self.now += 60.0
            self.wired.check(self.now)
        elif what == "drain":
            self.client.connection.drain()
        elif what == "cut":
            self.client.connection.cut()
        elif what == "service goes":
            self.service_lost(eof=False)
        elif not self.one:
            self.service_sends(goaway(0))

    def service_lost(self, *, eof: bool) -> None:
        if not self.one:
            self.wired.service.transport.closing = True
            self.wired.service.connection.connection_lost(None)
            return
        transport = self.wired.one.made[0][1]
        if not transport.closing:
            keeps: bool = transport.protocol.eof_received()  # type: ignore[attr-defined]
            if not (eof and keeps):
                transport.closing = True

    def window(self, who: str) -> int:
        """What ``who`` may still say."""
        if self.one and who == "service":
            transport = self.wired.one.made[0][1]
            return 1 << 20 if transport.reading else 0
        log = self.client.log if who == "client" else self.wired.service.log
        said = len(self.said[who])
        return max(0, min(65535 + log.windows.get(number, 0) - said for number in (0, 1)))

    async def settle(self) -> None:
        """Turns of the loop, in which transports that are closed say so."""
        for _ in range(3):
            await asyncio.sleep(0)
            for _, transport, _ in self.wired.one.made:
                if transport.closing and transport.reading is not None:
                    transport.reading = None  # type: ignore[assignment]
                    transport.protocol.connection_lost(None)  # type: ignore[attr-defined]

    async def end(self) -> None:
        self.client.read()
        if self.client.log.status(1) == 200:
            assert self.said["service"].startswith(self.client.log.bodies.get(1, b""))
        assert self.said["client"].startswith(self.service_heard())
        self.client.connection.connection_lost(None)
        await self.settle()
        assert self.wired.metrics.in_flight == 0
        assert not self.client.connection.streams
        assert all(endpoint.active == 0 for endpoint in self.wired.cluster.endpoints)
        assert not any(one.connection.streams for one in self.wired.dialer.made)
        assert not self.errors


async def play(path: bytes, before: int, agrees: bool, actions: list[Action]) -> None:
    """:param before: actions before the service answers."""
    world = World(path)
    for number, (what, size) in enumerate(actions):
        if number == before:
            world.answer(agrees=agrees)
        world.do(what, size)
        await world.settle()
    FIGURES["cases"] += 1
    if world.begun and not world.broken:
        FIGURES["whole"] += 1
        # Whatever is in between, windows that are opened let all of it through.
        for _ in range(60):
            world.client.feed(settings((4, 65535)) + window(1, 1 << 20) + window(0, 1 << 20))
            if not world.one:
                world.service_sends(settings((4, 65535)) + window(1, 1 << 20) + window(0, 1 << 20))
            world.client.read()
            world.service_heard()
            await world.settle()
        assert world.client.log.bodies.get(1, b"") == world.said["service"]
        assert world.service_heard() == world.said["client"]
        assert all(world.window(who) > 0 for who in ("client", "service")) or world.ended
    await world.end()


@settings_of(max_examples=2 * CASES, derandomize=DERANDOMIZE, deadline=None)
@given(
    st.sampled_from([b"/h2", b"/wait"]),
    st.sampled_from([0, 0, 1, 3]),
    st.sampled_from([True, True, True, False]),
    ACTIONS,
)
def check_tunnels(path: bytes, before: int, agrees: bool, actions: list[Action]) -> None:
    asyncio.run(play(path, before, agrees, actions))


def test_whatever_both_ends_do_a_tunnel_ends_once_and_loses_nothing_before() -> None:
    FIGURES.clear()
    check_tunnels()
    assert FIGURES["whole"] > FIGURES["cases"] / 8
