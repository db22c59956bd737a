"""Damaged messages through the gateway's real parts, with h11 as the judge of what comes out.

Cases of the protocol tables are mutated, joined and cut at arbitrary places. Whatever a client
sends, each request that a service gets must be one that a strict parser reads as exactly one
request, the one that the gateway took it for; and whatever a service answers, a client must get
one response, or one that is visibly broken off. Nothing may raise, and nothing may hang.

``make fuzz`` runs more of them, other ones each time; ``SIGER_FUZZ_CASES`` says how many.
"""

from __future__ import annotations

import os
import time
from collections import Counter

import h11
from hypothesis import given, settings
from hypothesis import strategies as st

from siger_gateway.http1.request_parser import RequestParser
from tests.protocol import requests_framing, requests_meaning, requests_syntax, responses
from tests.protocol.wired import ANSWER, Wired, pieces

BATCH = 20
"""Cases of one example: hypothesis itself costs more than a case."""

CASES = int(os.environ.get("SIGER_FUZZ_CASES", "10000")) // 2
"""For each of the two sides."""
REPORT = "SIGER_FUZZ_CASES" in os.environ

LONGEST = 600
"""Bytes: longer cases are about limits."""

REQUESTS = [
    case
    for case in requests_framing.CASES + requests_syntax.CASES + requests_meaning.CASES
    if len(case.sent) < LONGEST
]
RESPONSES = [case for case in responses.CASES if len(case.answer) < LONGEST]

PUT = st.one_of(
    st.sampled_from([b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b"\x00", b",", b";", b"0", b"1"]),
    st.sampled_from([b"\r\n\r\n", b"\r\n ", b"\x0b", b"\x7f", b"\xff", b"#", b"*", b"//", b"a"]),
    st.sampled_from([b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: b\r\n"]),
    st.sampled_from([b"0\r\n\r\n", b"3\r\nabc\r\n", b"Connection: close\r\n", b"HTTP/1.0"]),
)
AT = st.integers(0, 600)
MUTATION = st.tuples(AT, st.integers(0, 3), PUT)
CUTS = st.lists(AT, max_size=3)


Batch = list[tuple[bytes, list[int]]]


def batches(good: list[bytes], known: list[bytes]) -> st.SearchStrategy[Batch]:
    """Damaged messages, each with the places where it is cut; every other part was good."""

    def damage(drawn: tuple[list[bytes], list[tuple[int, int, bytes]], list[int]]) -> object:
        parts, mutations, cuts = drawn
        data = b"".join(parts)
        for at, removed, put in mutations:
            at %= len(data) + 1
            data = data[:at] + put + data[at + removed :]
        return data, cuts

    part = st.one_of(st.sampled_from(good), st.sampled_from(known))
    parts = st.lists(part, min_size=1, max_size=2)
    one = st.tuples(parts, st.lists(MUTATION, max_size=2), CUTS).map(damage)
    return st.lists(one, min_size=BATCH, max_size=BATCH)  # type: ignore[arg-type]


class Judge:
    """Reads what was written as h11 reads it: messages, and whether the last is complete."""

    def __init__(self, role: type[h11.SERVER] | type[h11.CLIENT], data: bytes) -> None:
        self.connection = h11.Connection(role, max_incomplete_event_size=1 << 20)
        if role is h11.CLIENT:
            self.connection.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
            self.connection.send(h11.EndOfMessage())
        self.connection.receive_data(data)
        self.head: h11.Request | h11.Response | None = None
        self.informational = 0
        self.body = b""
        self.complete = False

    def read(self, *, ended: bool) -> None:
        """Raises ``h11.RemoteProtocolError`` when it is not valid; ``ended``: no more follows."""
        while True:
            event = self.connection.next_event()
            if event is h11.NEED_DATA:
                if not ended or self.connection.trailing_data[1]:
                    return
                ended = False
                self.connection.receive_data(b"")
            elif isinstance(event, h11.InformationalResponse):
                self.informational += 1
            elif isinstance(event, h11.Request | h11.Response):
                self.head = event
            elif isinstance(event, h11.Data):
                self.body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                self.complete = True
                return
            else:  # h11.PAUSED, h11.ConnectionClosed
                return

    @property
    def rest(self) -> bytes:
        return self.connection.trailing_data[0]


def as_taken(data: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """The complete requests of ``data`` as the parser reads them: method, target, body."""
    parser = RequestParser(8192, 10_000)
    parser.receive(data)
    return [
        (request.method, request.target, request.take_body())
        for request in parser.started
        if request.complete
    ]


def check_requests(wired: Wired, data: bytes, cuts: list[int], figures: Counter[str]) -> None:
    client, answers = wired.client()
    taken = as_taken(data)
    upstream, forwarded = wired.service()
    seen = 0
    for piece in pieces(data, cuts):
        if not answers.closing:
            client.data_received(piece)
        while forwarded.written:
            judge = Judge(h11.SERVER, forwarded.written)
            judge.read(ended=False)  # whatever is forwarded is valid
            if not judge.complete:
                break
            assert judge.rest == b"", "a second request behind the first"
            assert isinstance(judge.head, h11.Request)
            # OPTIONS * and refused paths are answered by the gateway itself.
            while taken[0][:2] != (judge.head.method, judge.head.target):
                taken.pop(0)
            assert taken.pop(0)[2] == judge.body
            seen += 1
            used, (upstream_next, next_forwarded) = upstream, wired.service()
            forwarded, upstream = next_forwarded, upstream_next
            used.data_received(ANSWER)
    judge = Judge(h11.SERVER, data)
    try:
        judge.read(ended=False)
    except h11.RemoteProtocolError:
        figures["h11 would refuse"] += 1
    figures["forwarded"] += seen
    figures["refused"] += answers.closing and not seen
    figures["cases"] += 1
    wired.end(client)


def check_response(wired: Wired, data: bytes, cuts: list[int], figures: Counter[str]) -> None:
    client, got = wired.client()
    upstream, _ = wired.service()
    client.data_received(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    for piece in pieces(data, cuts):
        if not upstream.closed:
            upstream.data_received(piece)
    if not upstream.closed:
        upstream.connection_lost(None)
    judge = Judge(h11.CLIENT, got.written)
    try:
        judge.read(ended=got.closing)
    except h11.RemoteProtocolError:
        assert got.aborted, "not valid, and the client cannot see that it is broken"
        assert not judge.complete
        figures["broken"] += 1
    else:
        assert judge.head is not None, "no answer at all"
        assert judge.rest == b"", "a second response behind the first"
        assert judge.complete is not got.aborted
        status = judge.head.status_code
        figures["refused" if status == 502 else "relayed"] += 1
        if status != 502:
            check_meaning(data, judge, figures)
    figures["cases"] += 1
    wired.end(client)


def check_meaning(sent: bytes, got: Judge, figures: Counter[str]) -> None:
    """Where h11 can read the service's own bytes, it is the same response."""
    judge = Judge(h11.CLIENT, sent)
    try:
        judge.read(ended=True)
    except h11.RemoteProtocolError:
        figures["h11 would refuse"] += 1
        return
    assert judge.head is not None
    assert got.head is not None
    assert (judge.head.status_code, judge.body) == (got.head.status_code, got.body)


def report(what: str, figures: Counter[str], started: float) -> None:
    if REPORT:
        print(f"\n{what}: {dict(figures)} in {time.perf_counter() - started:.1f} s")


async def test_no_request_is_forwarded_that_anybody_could_read_otherwise() -> None:
    wired, figures, started = Wired(), Counter[str](), time.perf_counter()

    @settings(max_examples=CASES // BATCH, derandomize=not REPORT)
    @given(
        batches(
            [case.sent for case in REQUESTS if case.seen and not case.reason],
            [case.sent for case in REQUESTS],
        )
    )
    def fuzz(batch: Batch) -> None:
        for data, cuts in batch:
            check_requests(wired, data, cuts, figures)

    fuzz()
    report("requests", figures, started)
    assert figures["cases"] >= CASES
    assert figures["forwarded"] > CASES / 20
    assert figures["refused"] > CASES / 20


async def test_no_response_is_passed_on_that_anybody_could_take_for_another() -> None:
    wired, figures, started = Wired(), Counter[str](), time.perf_counter()

    @settings(max_examples=CASES // BATCH, derandomize=not REPORT)
    @given(
        batches(
            [case.answer for case in RESPONSES if isinstance(case.got, bytes)],
            [case.answer for case in RESPONSES],
        )
    )
    def fuzz(batch: Batch) -> None:
        for data, cuts in batch:
            check_response(wired, data, cuts, figures)

    fuzz()
    report("responses", figures, started)
    assert figures["cases"] >= CASES
    assert figures["relayed"] > CASES / 20
    assert figures["refused"] > CASES / 20
