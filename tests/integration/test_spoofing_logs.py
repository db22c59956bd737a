"""Whatever a client writes stands in logs and responses as what it is, and no secret in any."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest

from tests.spoofing import ADMIN, ALICE, KEY, OPERATOR, OTHER_KEY, ROBOT, SECRET, World, token

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(
    ("given", "is_taken"),
    [
        ("abc-123", True),
        ("a" * 128, True),
        ("a" * 129, False),
        ("", False),
        ("a b", False),
        ("a\tb", False),
        ('"}', False),
        ("a,b", False),
        ("é", False),
        ("a%0d%0aX-Evil: 1", False),
        ("<script>", False),
        ("${jndi:ldap://x}", False),
        ("a\\nb", False),
        ("a;b", False),
    ],
)
async def test_a_request_id_is_a_plain_word_or_a_new_one(
    world: World, given: str, is_taken: bool
) -> None:
    answer, served = await world.ask("GET /open", f"X-Request-ID: {given}", "X_Request_ID: evil")
    assert served is not None
    (taken,) = served.field("x-request-id")
    assert answer.headers["x-request-id"] == taken
    assert (taken == given) is is_taken
    assert not served.field("x_request_id")
    if not is_taken:
        assert len(taken) == 32
    assert (await world.direct.access(taken))["route"] == "open"


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("GET /open/%22%7d%0a", ()),
        ('GET /open/"},{"user":"root"}', ()),
        ("GET /open", ('User-Agent: "},{"user":"root"}\\n',)),
        ("GET /open", ("User-Agent: \x80\x85\xe2\x80\xa8",)),
        ("GET /private", ("Authorization: Bearer " + token('a"} {b', "user"),)),
    ],
)
async def test_whatever_a_client_writes_is_one_line_of_the_access_log(
    world: World, line: str, fields: tuple[str, ...]
) -> None:
    before = world.direct.access_log.read_text().count("\n")
    request_id = f"line-{before}"
    answer, _ = await world.ask(line, f"X-Request-ID: {request_id}", *fields)
    assert answer.headers["x-request-id"] == request_id
    entry = await world.direct.access(request_id)
    assert entry["status"] == answer.status
    assert entry["user"] == ("" if "private" not in line else 'a"} {b')
    for raw in world.direct.access_log.read_bytes().splitlines():
        json.loads(raw)
        assert raw.isascii() or raw.decode()


HIDDEN = [SECRET, KEY, OTHER_KEY, ALICE.split()[-1], ADMIN.split()[-1], "s3cret-cookie", "s3cret-q"]


async def test_no_secret_is_written_anywhere(world: World) -> None:
    """At debug level, whatever becomes of the request."""
    cookie, bodies = "Cookie: session=s3cret-cookie", b""
    targets = ("/private", "/admin", "/maybe", "/open", "/nowhere\\", "/by-user", "/health")
    for target in targets:
        for credentials in ((ALICE,), (ALICE, ADMIN), (ROBOT,), (OPERATOR, ALICE), (ROBOT + "x",)):
            for query in (
                "token=s3cret-q",
                "a=b&access_token=s3cret-q",
                "x=%2F%3Fapi_key=s3cret-q",
            ):
                answer, _ = await world.ask(f"GET {target}?{query}", *credentials, cookie)
                bodies += answer.body + str(answer.headers).encode()
    broken = [f"{ALICE}\x00", f"{ROBOT}\r\n x", f"Transfer-Encoding: x\r\n{ALICE}\r\n{cookie}"]
    for field in broken:
        answer, _ = await world.ask("GET /private?token=s3cret-q", field)
        assert answer.status == 400
        bodies += answer.body
    last = (await world.ask("GET /open"))[0].headers["x-request-id"]
    await world.direct.access(last)  # all before it is written too
    routes = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "siger_gateway", "routes", "--config", world.direct.config_path],
        capture_output=True,
        check=True,
    )
    written = {
        "responses": bodies,
        "the access log": world.direct.access_log.read_bytes(),
        "the log": json.dumps(world.direct.lines).encode(),
        "routes": routes.stdout + routes.stderr,
        "metrics": (await world.direct.get("/metrics")).body,
    }
    found = [
        (where, one) for where, text in written.items() for one in HIDDEN if one.encode() in text
    ]
    assert not found
    assert b"private" in written["routes"]
    assert b"ci" in written["the access log"]
