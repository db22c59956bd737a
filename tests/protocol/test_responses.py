"""The service's side of the protocol, through a real gateway process: every case of the table."""

from __future__ import annotations

import json

import pytest

from tests.protocol.cases import ResponseCase
from tests.protocol.harness import (
    Ends,
    read_to_end,
    sentinel,
    without_added_to_response,
)
from tests.protocol.responses import CASES

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_response_is_passed_on_exactly_or_refused_or_visibly_broken(
    case: ResponseCase, ends: Ends
) -> None:
    gateway, service = ends
    service.answers = [(case.answer, case.closes)]
    async with gateway.connect() as client:
        await client.send(case.request)
        raw = await read_to_end(client)
    if isinstance(case.got, bytes):
        version = b"1.0" if case.answer.startswith(b"HTTP/1.0") else b"1.1"
        assert without_added_to_response(raw, version) == case.got
    else:
        head, _, body = raw.partition(b"\r\n\r\n")
        assert (int(head.split(b" ", 2)[1]), json.loads(body)["reason"]) == case.got
        assert b'; details="%b"\r\n' % case.got[1].encode() in head
        assert b"evil" not in raw
    used = service.connections
    await sentinel(gateway)
    if case.upstream == "kept":
        assert service.sentinel_on == used
    else:
        assert service.sentinel_on == used + 1
        await service.wait_closed(used)


async def test_bytes_on_an_idle_connection_close_it_and_are_nobodys_answer(ends: Ends) -> None:
    """RFC 9112 section 9.2: a response must answer a request."""
    gateway, service = ends
    for unasked in (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", b"\r\n", b"H", b"\x00"):
        assert (await gateway.get("/")).body == b"ok"
        used = service.connections
        service.writers[used].write(unasked)
        await service.wait_closed(used)
        assert (await gateway.get("/")).body == b"ok"
        await sentinel(gateway)
        assert service.sentinel_on == used + 1


async def test_an_idle_connection_that_a_service_closes_leaves_the_pool(ends: Ends) -> None:
    """RFC 9112 section 9.5."""
    gateway, service = ends
    assert (await gateway.get("/")).body == b"ok"
    used = service.connections
    service.writers[used].close()
    await service.wait_closed(used)
    answer = await gateway.request("POST /", body=b"x")
    assert (answer.status, answer.body) == (200, b"ok")
    await sentinel(gateway)


async def test_a_trailer_that_closes_does_not_fail_the_next_request(ends: Ends) -> None:
    """RFC 9110 section 6.5.1: on one downstream connection, both are answered."""
    gateway, service = ends
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nConnection: close\r\n\r\n"
    service.answers = [(chunked, False)]
    async with gateway.connect() as client:
        assert (await client.request("GET /")).status == 200
        assert (await client.request("GET /")).body == b"ok"
    await sentinel(gateway)


async def test_a_broken_body_resets_a_client_that_could_not_tell_otherwise(ends: Ends) -> None:
    """RFC 9112 section 8: to HTTP/1.0 the end of the connection is the end of the body."""
    gateway, service = ends
    chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"
    service.answers = [(chunks, True)]
    async with gateway.connect() as client:
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            await client.reader.read()
    await sentinel(gateway)


async def test_every_case_has_a_name_of_its_own_and_names_its_section() -> None:
    names = [str(case) for case in CASES]
    assert len(set(names)) == len(names)
    assert all(case.section.split()[0] in ("9110", "9112", "9209") for case in CASES)
