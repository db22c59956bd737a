"""Services that speak HTTP/2, in process: every case of the table, for clients of both wires."""

from __future__ import annotations

import json

import pytest

from siger_gateway.http2.faults import INTERNAL_ERROR
from tests.protocol.http2_cases import GOES_ON
from tests.protocol.http2_peer import HELLO, data, get, head
from tests.protocol.http2_responses import CASES, HEAD, OK, UPLOAD, ResponseCase2
from tests.protocol.wired2 import Http2Service, Wired2

HEADS_OF_HTTP1 = {
    HEAD: b"HEAD /h2 HTTP/1.1\r\nHost: a\r\n\r\n",
    UPLOAD: b"POST /h2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
}
GET_OF_HTTP1 = b"GET /h2 HTTP/1.1\r\nHost: a\r\n\r\n"


def say(service: Http2Service, case: ResponseCase2, *, bytewise: bool) -> None:
    for piece in case.sent:
        pieces = [bytes([byte]) for byte in piece] if bytewise else [piece]
        service.send(*pieces)


def check_service(wired: Wired2, service: Http2Service, case: ResponseCase2) -> None:
    """What the service has heard, and whether its connection is used again."""
    log = service.log_from()
    assert [code for _, code in log.goaways] == ([] if case.code == GOES_ON else [case.code])
    assert log.resets == case.resets
    assert not service.connection.streams
    if case.code != GOES_ON:
        assert service.transport.closing
    if case.is_the_last:
        assert service.connection not in wired.two._connections
    else:
        assert service.connection.room > 0


@pytest.mark.parametrize("bytewise", [False, True])
@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_response_is_passed_on_whole_or_refused_or_visibly_broken(
    case: ResponseCase2, bytewise: bool
) -> None:
    wired = Wired2()
    client = wired.client()
    client.send(HELLO, case.asked)
    service = wired.service
    say(service, case, bytewise=bytewise)
    log = client.read()
    assert log.status(1) == case.status
    if case.reason:
        assert json.loads(log.bodies[1])["reason"] == case.reason
    elif case.broken:
        assert log.resets == {1: INTERNAL_ERROR}
    else:
        assert log.bodies.get(1, b"") == case.body
        assert 1 in log.ended
    check_service(wired, service, case)
    # Whatever became of it, the next request is answered.
    client.send(get(3, b"/h2"))
    service = wired.service
    number = max(service.log_from().heads)
    service.send(head(number, OK, ends=False), data(number, b"next", ends=True))
    assert client.read().bodies[3] == b"next"
    client.lose()


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_client_of_http1_reads_the_same_response_and_no_second_one(
    case: ResponseCase2,
) -> None:
    wired = Wired2()
    client, transport = wired.client1()
    client.data_received(HEADS_OF_HTTP1.get(case.asked, GET_OF_HTTP1))
    service = wired.service
    say(service, case, bytewise=False)
    written = bytes(transport.written)
    last = written
    while b" 1" in last[:12]:
        last = last.partition(b"\r\n\r\n")[2]
    assert last.startswith(b"HTTP/1.1 %d " % case.status)
    top, _, content = last.partition(b"\r\n\r\n")
    if case.asked == HEAD or case.status in (204, 304):
        assert content == b""
    elif case.reason:
        assert json.loads(content)["reason"] == case.reason
    elif case.body is not None and b"chunked" in top:
        size = b"%x\r\n%b\r\n" % (len(case.body), case.body) if case.body else b""
        assert content.startswith(size) or case.body.startswith(content[3:4])
        assert content.count(b"\r\n0\r\n") + content.startswith(b"0\r\n") == 1
    elif case.body is not None:
        assert content == case.body
    assert transport.aborted == case.broken
    check_service(wired, service, case)
    client.connection_lost(None)
    assert wired.metrics.in_flight == 0


async def test_every_case_has_a_name_of_its_own() -> None:
    assert len({str(case) for case in CASES}) == len(CASES)
