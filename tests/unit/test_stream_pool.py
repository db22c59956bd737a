"""The connections of HTTP/2 to an endpoint: whoever waits is called, once, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import pytest

from siger_gateway.config.schema import PoolConfig
from siger_gateway.http.message import Response
from siger_gateway.http2.client import ClientConnection
from siger_gateway.http2.client_stream import ClientStream
from siger_gateway.http2.frames import ping_ack
from siger_gateway.upstream.dial import Dialer
from siger_gateway.upstream.pool import AnyConnection
from siger_gateway.upstream.stream_pool import StreamPool
from tests.protocol.http2_peer import SETTINGS_ACK, Log, goaway, head, reset, settings
from tests.protocol.wired2 import Memory

P = TypeVar("P", bound=asyncio.Protocol)
OK = [(b":status", b"200")]


class Held(Dialer):
    """Its connections are there when the test says so, by ``let_in``."""

    def __init__(self) -> None:
        super().__init__("127.0.0.1", 1, None)
        self.asked: list[asyncio.Future[bytes]] = []
        """What is dialled: the future is what the service says first, or an error."""
        self.opened: list[tuple[ClientConnection, Memory]] = []

    async def dial(self, factory: Callable[[], P]) -> P:
        hello: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.asked.append(hello)
        first = await hello
        protocol = factory()
        assert isinstance(protocol, ClientConnection)
        transport = Memory()
        transport.protocol = protocol
        protocol.connection_made(transport)  # type: ignore[arg-type]
        self.opened.append((protocol, transport))
        if first:
            protocol.data_received(first)
        return protocol

    async def let_in(self, *pairs: tuple[int, int]) -> ClientConnection:
        """The connection that has been asked for is there."""
        await turn()
        self.asked.pop(0).set_result(settings(*pairs) + SETTINGS_ACK)
        await turn()
        return self.opened[-1][0]


async def turn() -> None:
    """All that is due happens."""
    for _ in range(5):
        await asyncio.sleep(0)


def pool(
    max_connections: int = 4, max_pending: int = 1000, connect_timeout: float = 5.0
) -> tuple[StreamPool, Held]:
    held = Held()
    config = PoolConfig(max_connections, max_pending, connect_timeout=connect_timeout)
    return StreamPool(held, config), held


class Caller:
    """Waits for a stream, and begins an exchange on it."""

    def __init__(self, owner: StreamPool) -> None:
        self.owner = owner
        self.stream: ClientStream | None = None
        self.calls: list[str] = []
        self.lost: list[str] = []
        self.complete = False

    def ask(self) -> Caller:
        stream = self.owner.take()
        if stream is not None:
            self.on_connection(stream)
        else:
            assert self.owner.wait(self)
        return self

    def on_connection(self, connection: AnyConnection) -> None:
        assert isinstance(connection, ClientStream)
        self.calls.append("stream")
        self.stream = connection
        connection.begin(self, b"GET", b"/", [(b"host", b"a")], 0)

    def on_no_connection(self, reason: str, detail: str) -> None:
        self.calls.append(reason)

    def on_informational(self, response: Response) -> None: ...

    def on_response(self, response: Response) -> None:
        self.complete = response.complete

    def on_response_data(self, response: Response) -> None: ...

    def on_upstream_lost(self, reason: str, detail: str) -> None:
        self.lost.append(reason)

    def pause_request(self) -> None: ...

    def resume_request(self) -> None: ...


async def callers(owner: StreamPool, number: int) -> list[Caller]:
    those = [Caller(owner).ask() for _ in range(number)]
    await turn()
    return those


def waiting(those: list[Caller]) -> int:
    return sum(not one.calls for one in those)


async def test_a_connection_is_used_when_the_service_has_said_how_many_streams_it_takes() -> None:
    owner, held = pool()
    those = await callers(owner, 5)
    assert len(held.asked) == 1
    held.asked.pop().set_result(b"")
    await turn()
    assert waiting(those) == 5
    held.opened[0][0].data_received(settings((3, 2)))
    await turn()
    assert waiting(those) == 3, "no more than it takes"
    assert len(held.asked) == 1, "another one for the others"
    await held.let_in((3, 2))
    await held.let_in((3, 2))
    assert waiting(those) == 0
    assert all(one.calls == ["stream"] for one in those)


async def test_more_streams_are_given_when_the_service_allows_more() -> None:
    owner, held = pool(max_connections=1)
    those = await callers(owner, 3)
    connection = await held.let_in((3, 0))
    assert waiting(those) == 3
    connection.data_received(settings((3, 2)))
    assert waiting(those) == 1
    connection.data_received(settings((3, 1)))
    connection.data_received(head(1, OK))
    assert waiting(those) == 1, "it allows fewer now"
    connection.data_received(head(3, OK))
    assert waiting(those) == 0


async def test_a_service_that_says_nothing_is_a_timeout() -> None:
    owner, held = pool(connect_timeout=0.01)
    those = await callers(owner, 2)
    held.asked.pop().set_result(b"")
    await asyncio.gather(*owner._tasks)
    assert [one.calls for one in those] == [["connect_timeout"]] * 2
    assert held.opened[0][1].aborted


@pytest.mark.parametrize(
    "first",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", settings() + goaway(), settings((2, 1)), bytes(9)],
    ids=["HTTP/1.1", "GOAWAY", "bad SETTINGS", "DATA"],
)
async def test_a_service_that_does_not_take_a_stream_is_a_failed_connection(first: bytes) -> None:
    """Nothing was sent: everybody may be sent elsewhere."""
    owner, held = pool()
    those = await callers(owner, 2)
    held.asked.pop().set_result(first)
    await turn()
    assert [one.calls for one in those] == [["connect_failed"]] * 2
    assert not held.asked
    assert owner.busy == owner.idle == 0


async def test_a_connection_that_leaves_is_replaced_for_those_who_wait() -> None:
    """RFC 9113 section 6.8: though it has a stream that takes hours."""
    owner, held = pool(max_connections=1)
    those = await callers(owner, 3)
    connection = await held.let_in((3, 1))
    assert waiting(those) == 2
    connection.data_received(goaway(1))
    await turn()
    replacement = await held.let_in()
    assert waiting(those) == 0
    assert not those[0].lost
    connection.data_received(head(1, OK))
    assert those[0].complete
    assert held.opened[0][1].closing
    assert owner.take() is not None
    assert replacement.room > 0
    assert owner.busy == 1


async def test_what_a_goaway_refuses_hears_so_and_may_ask_again_at_once() -> None:
    owner, held = pool(max_connections=1)

    class Again(Caller):
        def on_upstream_lost(self, reason: str, detail: str) -> None:
            super().on_upstream_lost(reason, detail)
            self.ask()

    those: list[Caller] = [Again(owner).ask() for _ in range(3)]
    connection = await held.let_in()
    connection.data_received(goaway(1))
    await turn()
    assert [one.lost for one in those] == [[], ["stream_refused"], ["stream_refused"]]
    await held.let_in()
    assert [len(one.calls) for one in those] == [1, 2, 2]


async def test_those_who_wait_get_a_connection_when_theirs_is_lost() -> None:
    owner, held = pool(max_connections=1)
    those = await callers(owner, 3)
    connection = await held.let_in((3, 1))
    connection.connection_lost(None)
    assert those[0].lost == ["upstream_reset"]
    await turn()
    await held.let_in()
    assert waiting(those) == 0


async def test_whoever_does_not_trust_a_connection_gets_a_stream_of_it_all_the_same() -> None:
    """After a failure an exchange waits without asking ``take``: if there can be no other
    connection, it must not wait for ever."""
    owner, held = pool(max_connections=1)
    (first,) = await callers(owner, 1)
    connection = await held.let_in()
    connection.data_received(reset(1, 7))
    assert first.lost == ["stream_refused"]
    assert owner.wait(first)
    assert first.calls == ["stream"], "not within the call"
    await turn()
    assert first.calls == ["stream"] * 2


async def test_an_endpoint_that_leaves_serves_those_who_wait_for_it() -> None:
    owner, held = pool(max_connections=1)
    those = await callers(owner, 3)
    connection = await held.let_in((3, 1))
    owner.retire()
    assert not connection.leaving
    connection.data_received(head(1, OK))
    connection.data_received(head(3, OK))
    assert waiting(those) == 0
    assert connection.leaving
    connection.data_received(head(5, OK))
    assert connection.closed
    await turn()
    assert not held.asked, "nobody asks for another one"


async def test_an_endpoint_that_leaves_while_a_connection_is_opened_uses_and_closes_it() -> None:
    owner, held = pool()
    (one,) = await callers(owner, 1)
    owner.retire()
    connection = await held.let_in()
    assert one.calls == ["stream"]
    assert connection.leaving
    connection.data_received(head(1, OK))
    assert held.opened[0][1].closing


async def test_an_endpoint_that_leaves_forgets_whoever_gives_up() -> None:
    owner, held = pool(max_connections=1)
    those = await callers(owner, 2)
    connection = await held.let_in((3, 1))
    owner.retire()
    owner.give_up(those[1])
    assert connection.leaving
    connection.data_received(head(1, OK))
    assert connection.closed
    await turn()
    assert those[1].calls == []


async def test_a_failure_is_told_to_all_who_wait_and_who_asks_again_is_not_told_twice() -> None:
    owner, held = pool()

    class Again(Caller):
        def on_no_connection(self, reason: str, detail: str) -> None:
            super().on_no_connection(reason, detail)
            if len(self.calls) == 1:
                self.ask()

    those: list[Caller] = [Again(owner).ask() for _ in range(3)]
    await turn()
    held.asked.pop().set_exception(ConnectionRefusedError())
    await turn()
    assert [one.calls for one in those] == [["connect_refused"]] * 3
    await held.let_in()
    assert [one.calls[1:] for one in those] == [["stream"]] * 3


async def test_the_queue_has_an_end_when_no_more_connections_may_be_opened() -> None:
    owner, held = pool(max_connections=1, max_pending=2)
    await callers(owner, 1)
    await held.let_in((3, 1))
    await callers(owner, 2)
    assert not owner.wait(Caller(owner))
    assert owner.pending == 2


async def test_closing_tells_those_who_wait_for_a_connection() -> None:
    owner, _ = pool()
    (one,) = await callers(owner, 1)
    await turn()
    await owner.close()
    assert one.calls == ["connect_failed"]


async def test_idle_connections_are_closed_and_silent_ones_are_asked() -> None:
    owner, held = pool()
    one, other = await callers(owner, 2)
    connection = await held.let_in()
    now = asyncio.get_running_loop().time()
    owner.close_stale(now + 1000)
    assert not connection.closed, "it has streams"
    assert one.stream is not None
    one.stream.abort()
    log = Log()
    log.read(held.opened[0][1].take()[24:])
    assert len(log.pings) == 1
    owner.close_stale(now + 1002)
    assert not connection.closed
    owner.close_stale(now + 1004)
    assert connection.closed, "no answer: whoever is on it must not wait in vain"
    assert other.lost == ["upstream_reset"]


async def test_a_service_that_has_answered_is_not_asked_again_for_five_minutes() -> None:
    # Those of gRPC take more for an attack, and end the connection with all calls on it.
    owner, held = pool()
    those = await callers(owner, 3)
    connection = await held.let_in()
    transport = held.opened[0][1]
    now = asyncio.get_running_loop().time()
    asked = []
    for seconds, one in zip((10, 200, 311), those, strict=True):
        owner.close_stale(now + seconds)
        transport.take()
        assert one.stream is not None
        one.stream._began = connection.now - 5
        one.stream.abort()
        said = transport.take()
        asked.append(b"sigerask" in said)
        if asked[-1]:
            connection.data_received(ping_ack(b"sigerask"))
    assert asked == [True, False, True]


async def test_a_connection_without_streams_is_closed_when_it_has_idled() -> None:
    owner, held = pool()
    await callers(owner, 1)
    connection = await held.let_in()
    now = asyncio.get_running_loop().time()
    owner.close_stale(now + 100)
    connection.data_received(head(1, OK))
    owner.close_stale(now + 150)
    assert not connection.closed
    owner.close_stale(now + 161)
    assert connection.closed
    assert not held.opened[0][1].aborted
    assert (owner.idle, owner.busy) == (0, 0)
