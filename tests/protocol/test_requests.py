"""The client's side of the protocol, through a real gateway process: every case of the tables.

Nothing that is refused may reach a service in any form, what is forwarded arrives byte for byte,
and the connection either stays in step or is closed.
"""

from __future__ import annotations

import pytest

from tests.protocol import requests_framing, requests_meaning, requests_syntax
from tests.protocol.cases import SMUGGLED, RequestCase
from tests.protocol.harness import (
    Ends,
    next_answer,
    read_to_end,
    sentinel,
    without_added,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

CASES = requests_framing.CASES + requests_syntax.CASES + requests_meaning.CASES


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_request_is_forwarded_exactly_or_refused_and_never_half_seen(
    case: RequestCase, ends: Ends
) -> None:
    gateway, service = ends
    service.seen.clear()
    async with gateway.connect() as client:
        await client.send(case.sent)
        reason = ""
        for status in case.statuses:
            answer = await next_answer(client, case.sent)
            assert answer.status == status, answer
            if "application/problem" in answer.headers.get("content-type", ""):
                reason = answer.json["reason"]
                assert answer.headers["proxy-status"].endswith(f'; details="{reason}"')
            else:
                assert "proxy-status" not in answer.headers
        assert reason == case.reason
        assert (answer.headers.get("connection") != "close") == case.kept
        if case.kept:  # then the next request on it is read as what it is
            await client.send(b"GET /next HTTP/1.1\r\nHost: next\r\n\r\n")
            assert (await client.answer()).body == b"ok"
            assert service.seen.pop().startswith(b"GET /next HTTP/1.1\r\nhost: next\r\n")
        else:
            assert await read_to_end(client) == b""
    await sentinel(gateway)
    assert tuple(map(without_added, service.seen)) == case.seen


@pytest.mark.parametrize("framing", [b"Content-Length: 20000", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize("expect", [b"", b"Expect: 100-continue\r\n"])
async def test_an_answer_before_the_body_makes_no_request_of_the_body(
    framing: bytes, expect: bytes, ends: Ends
) -> None:
    """RFC 9112 section 9.3, [0.CL] and the desyncs by early answers: what was to be the body is
    neither the client's next request nor, on a connection used again, somebody else's."""
    gateway, service = ends
    service.seen.clear()
    service.early = True
    async with gateway.connect() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + expect + framing + b"\r\n\r\n")
        answer = await next_answer(client, b"POST")
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        used = service.connections
        await client.send(SMUGGLED + 4 * b"0\r\n\r\n")
        assert await read_to_end(client) == b""
    service.early = False
    await service.wait_closed(used)
    await sentinel(gateway)
    assert service.sentinel_on == used + 1
    assert len(service.seen) == 1


async def test_every_case_has_a_name_of_its_own_and_names_its_section() -> None:
    names = [str(case) for case in CASES]
    assert len(set(names)) == len(names)
    assert all(
        case.section.split()[0] in ("9110", "9112", "9113", "3986", "7239") for case in CASES
    )
