"""Whatever a client says about itself: it changes neither who it is taken for, nor whose limit it
uses up, nor what the service is told."""

from __future__ import annotations

from itertools import product

import pytest

from siger_gateway.filters.headers import IDENTITY_FIELDS
from tests.running import Served, Upstream
from tests.spoofing import (
    ADMIN,
    ALICE,
    AS_ALICE,
    AS_NOBODY,
    AS_ROBOT,
    BOB,
    HOST,
    KEY,
    OPERATOR,
    ROBOT,
    World,
    left,
    token,
    told,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAMES = sorted(name.decode() for name in IDENTITY_FIELDS if b"_" not in name)


def every_spelling(name: str) -> list[str]:
    marks = product("-_", repeat=name.count("-"))
    joined = ["".join(map("".join, zip(name.split("-"), [*one, ""], strict=True))) for one in marks]
    return [*joined, *(one.title() for one in joined), *(one.upper() for one in joined)]


# Who the service is told that the user is.


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("path", "credentials", "expected"),
    [
        ("/private", ALICE, AS_ALICE),
        ("/maybe", ROBOT, AS_ROBOT),
        ("/maybe", "", AS_NOBODY),
        ("/open", "", AS_NOBODY),
        ("/open", ALICE, AS_NOBODY),
    ],
    ids=["token", "key", "optional", "none", "none with a token"],
)
async def test_no_field_about_users_comes_from_a_client(
    world: World, name: str, path: str, credentials: str, expected: dict[str, list[str]]
) -> None:
    lies = [f"{spelling}: mallory" for spelling in every_spelling(name)]
    for of in (world.direct, world.behind):  # a trusted proxy vouches for addresses alone
        _, served = await world.ask(f"GET {path}", *lies, *filter(None, [credentials]), of=of)
        assert told(served) == expected
        assert "mallory" not in str(served and served.head)


@pytest.mark.parametrize(
    "lie",
    [
        "X-User-ID:mallory",
        "X-User-ID: \t mallory\t ",
        "X-User-ID: mallory\r\nx-user-id: root\r\nX-USER-ID: admin",
        "X-User-ID:",
        "X-User-Role: admin, user",
        "Connection: x-user-id, x-user-role",
        "Connection: X-User-ID\r\nConnection: close, X-USER-ROLE",
        "X-User-ID: mallory\r\nConnection: x_user_id, x-user-id",
        "Proxy-Connection: x-user-id",
        "Keep-Alive: x-user-id",
        "TE: trailers, x-user-id",
        "Trailer: x-user-id",
        "Upgrade: x-user-id\r\nConnection: upgrade, x-user-id",
        "X-Other: a\tX-User-ID: mallory",
    ],
)
async def test_no_way_of_writing_a_field_gets_past_or_takes_away_who_it_is(
    world: World, lie: str
) -> None:
    answer, served = await world.ask("GET /private", ALICE, lie)
    assert answer.status == 200
    assert told(served) == AS_ALICE


@pytest.mark.parametrize(
    "broken",
    [
        "X-User-ID : mallory",
        "X-User-ID\t: mallory",
        " X-User-ID: mallory",
        "X-Other: a\r\n X-User-ID: mallory",
        "X-Other: a\nX-User-ID: mallory",
        "X-Other: a\rX-User-ID: mallory",
        "X-User-ID\x00: mallory",
        "X-User-ID: mall\x00ory",
        "X-User-ID\xa0: mallory",
        "X-User\xadID: mallory",
        "X-User-ID(x): mallory",
        ": mallory",
        "X-User-ID",
    ],
)
async def test_a_field_that_could_be_read_in_two_ways_is_no_request(
    world: World, broken: str
) -> None:
    answer, served = await world.ask("GET /private", ALICE, broken)
    assert (answer.status, answer.json["reason"]) == (400, "bad_request")
    assert served is None


@pytest.mark.parametrize(
    "name",
    [
        *("X-User-ID", "x_user_id", "X-User-Role", "Remote-User", "X-Forwarded-For", "Forwarded"),
        *("X-Real-IP", "x_real_ip", "X-Request-ID", "Authorization", "Cookie", "Host"),
        *("X-API-Key", "x_api_key", "Content-Length", "Transfer-Encoding", "TE", "Expect"),
    ],
)
async def test_nothing_about_the_client_comes_in_trailers(world: World, name: str) -> None:
    trailers: list[bytes] = []

    async def read(upstream: Upstream, served: Served) -> None:
        await served.reader.readuntil(b"\r\n0\r\n")
        while (line := await served.reader.readuntil(b"\r\n")) != b"\r\n":
            trailers.append(line)
        await served.ok()

    before, world.upstream.script = world.upstream.script, read
    try:
        lines = ("POST /private HTTP/1.1", f"Host: {HOST}", ALICE, "Transfer-Encoding: chunked")
        body = f"1\r\nx\r\n0\r\n{name}: mallory\r\nX-Checksum: 1\r\n\r\n".encode()
        answer, served = await world.send("\r\n".join(lines), body=body)
    finally:
        world.upstream.script = before
    if answer.status == 200:
        assert told(served) == AS_ALICE
        assert trailers == [b"x-checksum: 1\r\n"]
    else:
        assert (answer.status, trailers) == (400, [])


# Credentials.

UNSIGNED = "eyJhbGciOiJub25lIn0.eyJ1c2VyX2lkIjoicm9vdCJ9."


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ((), "unauthenticated"),
        ((ALICE, ADMIN), "bad_credentials"),
        ((ADMIN, ALICE), "bad_credentials"),
        ((ALICE, ALICE), "bad_credentials"),
        ((ALICE, ALICE.replace("Authorization", "authorization")), "bad_credentials"),
        (("Authorization: Basic cm9vdDp4", ALICE), "bad_credentials"),
        ((ALICE, "Authorization: Basic cm9vdDp4"), "bad_credentials"),
        ((ALICE, "Authorization:"), "bad_credentials"),
        ((ROBOT, OPERATOR), "bad_credentials"),
        ((OPERATOR, ROBOT), "bad_credentials"),
        ((ROBOT, ROBOT), "bad_credentials"),
        ((ROBOT, "X-API-Key:"), "bad_credentials"),
        ((ALICE, ROBOT), "bad_credentials"),
        ((ADMIN, OPERATOR), "bad_credentials"),
        ((ALICE, "X-API-Key: wrong"), "bad_credentials"),
        ((ROBOT, "Authorization: Bearer wrong"), "bad_credentials"),
        ((ALICE, "X-API-Key:"), "bad_credentials"),
        (("Authorization: Bearer",), "bad_credentials"),
        (("Authorization: Bearer ",), "bad_credentials"),
        (("Authorization: bearer wrong",), "token_malformed"),
        ((ALICE + " x",), "token_malformed"),
        ((ALICE + ", Basic cm9vdDp4",), "token_malformed"),
        ((ALICE + "=",), "token_malformed"),
        ((f"Authorization: Bearer {UNSIGNED}",), "token_algorithm"),
        ((f"Authorization: Bearer {KEY}",), "token_malformed"),
        ((ROBOT + "x",), "api_key_unknown"),
        ((ROBOT.upper(),), "api_key_unknown"),
        ((ROBOT + ", " + KEY,), "api_key_unknown"),
        (("X-API-Key: Bearer " + KEY,), "api_key_unknown"),
        (("X-API-Key:",), "api_key_unknown"),
        ((f"X-API-Key: {token('root', 'admin')}",), "api_key_unknown"),
        ((f"X_API_Key: {KEY}",), "unauthenticated"),
        ((f"Authorization: ApiKey {KEY}",), "unauthenticated"),
        (("Authorization: Basic cm9vdDp4",), "unauthenticated"),
        (("Authorization:",), "unauthenticated"),
        (("Proxy-" + ALICE,), "unauthenticated"),
        ((f"Cookie: token={token('root', 'admin')}",), "unauthenticated"),
    ],
)
async def test_nobody_passes_with_odd_credentials(
    world: World, fields: tuple[str, ...], reason: str
) -> None:
    answer, served = await world.ask("GET /private", *fields)
    assert (answer.status, answer.json["reason"]) == (401, reason)
    assert "www-authenticate" in answer.headers
    assert served is None
    if reason != "unauthenticated":  # who shows something bad is not let in as nobody either
        answer, served = await world.ask("GET /maybe", *fields)
        assert (answer.status, answer.json["reason"], served) == (401, reason, None)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ((ALICE,), AS_ALICE),
        ((ALICE.replace("Bearer", "bEARER"),), AS_ALICE),
        ((ALICE.replace("Bearer", "Bearer  ") + " ",), AS_ALICE),
        ((ALICE, "Connection: authorization, x-api-key"), AS_ALICE),
        ((ROBOT, "Connection: X-API-Key, x-user-id"), AS_ROBOT),
        ((ROBOT, "Authorization: Basic cm9vdDp4"), AS_ROBOT),
        ((ROBOT, "x_api_key: " + KEY), AS_ROBOT),
        ((ALICE, "Proxy-Authorization: Bearer x"), AS_ALICE),
    ],
)
async def test_good_credentials_are_good_for_what_they_say_and_nothing_else(
    world: World, fields: tuple[str, ...], expected: dict[str, list[str]]
) -> None:
    answer, served = await world.ask("GET /private", *fields)
    assert answer.status == 200
    assert told(served) == expected
    assert KEY not in str(served and served.head)
    answer, served = await world.ask("GET /admin", *fields, "X-User-Role: admin")
    assert (answer.status, answer.json["reason"], served) == (403, "forbidden", None)


@pytest.mark.parametrize("path", ["/private", "/maybe", "/admin"])
@pytest.mark.parametrize("name", ["X-API-Key", "x-api-key", "X_API_KEY", "x-api_key"])
async def test_an_api_key_ends_at_the_gateway(world: World, path: str, name: str) -> None:
    answer, served = await world.ask(f"GET {path}", ADMIN, f"{name}: {KEY}")
    if "_" in name:
        assert answer.status == 200
        assert KEY not in str(served and served.head)
    else:
        assert (answer.status, served) == (401, None)


# Whose limit it is, and whose address.

LIES_ABOUT_ADDRESSES = [
    "X-Forwarded-For: 203.0.113.7",
    "X-Forwarded-For: 203.0.113.7, 127.0.0.1",
    "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-For: 10.0.0.1",
    "X-FORWARDED-FOR: 203.0.113.7",
    "x_forwarded_for: 203.0.113.7",
    "X-Forwarded_For: 203.0.113.7",
    "Forwarded: for=203.0.113.7",
    'Forwarded: for="[2001:db8:1::1]:80";proto=https;by=127.0.0.1',
    "X-Real-IP: 203.0.113.7",
    "X_Real_IP: 203.0.113.7",
    "X-Client-IP: 203.0.113.7",
    "True-Client-IP: 203.0.113.7",
    "CF-Connecting-IP: 203.0.113.7",
    "X-Cluster-Client-IP: 203.0.113.7",
    "X-Originating-IP: 203.0.113.7",
    "X-Forwarded: 203.0.113.7",
    "X-Forwarded-For: 203.0.113.7\r\nConnection: x-forwarded-for",
    "X-User-ID: mallory",
    "Via: 1.1 203.0.113.7",
    "Host: 203.0.113.7",
]


@pytest.mark.parametrize("lie", LIES_ABOUT_ADDRESSES)
async def test_a_client_has_one_address_whatever_it_says(world: World, lie: str) -> None:
    if lie.startswith("Host: "):
        host, fields = lie.removeprefix("Host: "), ["X-A: b"]
    else:
        host, fields = HOST, [lie]
    before = left((await world.ask("GET /by-address"))[0])
    answer, served = await world.ask("GET /by-address", *fields, host=host)
    assert answer.status == 200
    assert left(answer) == before - 1
    assert served is not None
    assert served.field("x-forwarded-for") == ["127.0.0.1"]
    assert served.field("forwarded") == [f"for=127.0.0.1;proto=http;host={host}"]
    assert not served.field("x-real-ip")
    assert (await world.ask("GET /inside", *fields, host=host))[0].status == 200
    for path in ("/outside", "/office"):
        answer, served = await world.ask(f"GET {path}", *fields, host=host)
        assert (answer.status, answer.json["reason"]) == (403, "address_denied")
        assert served is None


@pytest.mark.parametrize(
    ("field", "status"),
    [
        ("X-Forwarded-For: 203.0.113.7", 200),
        ("X-Forwarded-For: 203.0.113.7:4711", 200),
        ("X-Forwarded-For: 198.51.100.1, 203.0.113.7", 200),
        ("X-Forwarded-For: 203.0.113.7, 127.0.0.1", 200),
        ("X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-For: 203.0.113.7", 200),
        ("X-Forwarded-For: ::ffff:203.0.113.7", 200),
        ("X-Forwarded-For: [2001:DB8:1::1]:443", 200),
        ("Forwarded: for=203.0.113.7", 200),
        ('Forwarded: for="[2001:db8:1::1]:443"', 200),
        ("X-Forwarded-For: 203.0.113.7, 198.51.100.1", 403),
        ("X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-For: 198.51.100.1", 403),
        ("X-Forwarded-For: 203.0.113.7, unknown", 403),
        ("X-Forwarded-For: 203.0.113.7, 2001:db8:1::1%eth0", 403),
        ("X-Forwarded-For: 203.0.113.07", 403),
        ("X-Forwarded-For: 203.0.113.7 198.51.100.1", 403),
        ("X-Forwarded-For: 203.0.113.7;198.51.100.1", 403),
        ("X-Forwarded-For: 3405803783", 403),
        ("X-Forwarded-For: 0xcb.0.113.7", 403),
        ("X-Forwarded-For: \xb2\xb0\xb3.0.113.7", 403),
        ("X-Forwarded-For:", 403),
        ("x_forwarded_for: 203.0.113.7", 403),
        ("X-Real-IP: 203.0.113.7", 403),
        ("X-Forwarded-For: 198.51.100.1\r\nForwarded: for=203.0.113.7", 403),
        ("X-Forwarded-Proto: https\r\nForwarded: for=203.0.113.7", 403),
        ("Forwarded: for=203.0.113.7, for=198.51.100.1", 403),
        ("Forwarded: for=203.0.113.7, for=_hidden", 403),
        ("Forwarded: for=203.0.113.7;for=198.51.100.1", 403),
        ('Forwarded: for="203.0.113.7', 403),
    ],
)
async def test_behind_a_proxy_the_client_is_the_last_one_that_the_proxy_names(
    world: World, field: str, status: int
) -> None:
    answer, _ = await world.ask("GET /office", field, of=world.behind)
    assert answer.status == status


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:2::1", "2001:db8:2:0:ffff::9", True),
        ("2001:db8:2::1", "[2001:DB8:2:0::2]:443", True),
        ("2001:db8:3:1::1", "2001:db8:3:2::1", False),
        ("198.51.100.9", "::ffff:198.51.100.9", True),
        ("198.51.100.9", "198.51.100.9:1234", True),
        ("198.51.100.10", "198.51.100.11", False),
        ("2002:c633:640c::1", "198.51.100.12", False),
    ],
)
async def test_a_limit_by_address_is_one_for_all_addresses_of_a_host(
    world: World, one: str, other: str, same: bool
) -> None:
    first, _ = await world.ask("GET /by-address", f"X-Forwarded-For: {one}", of=world.behind)
    second, _ = await world.ask("GET /by-address", f"X-Forwarded-For: {other}", of=world.behind)
    assert (left(second) == left(first) - 1) is same


@pytest.mark.parametrize("path", ["/by-user", "/by-key"])
@pytest.mark.parametrize(
    "lie",
    [
        "X-User-ID: bob",
        "X_User_ID: bob",
        "X-API-Key-ID: ops",
        "X-Forwarded-For: 203.0.113.7",
        "X-Forwarded-User: bob",
        "X-Tenant: other",
        "Connection: authorization, x-api-key, x-user-id",
    ],
)
@pytest.mark.parametrize("credentials", [ALICE, ROBOT, ""], ids=["token", "key", "nobody"])
async def test_a_limit_is_that_of_whom_the_credentials_name(
    world: World, path: str, lie: str, credentials: str
) -> None:
    own = [credentials] if credentials else []
    before = left((await world.ask(f"GET {path}", *own))[0])
    of_another = left((await world.ask(f"GET {path}", BOB))[0])
    assert left((await world.ask(f"GET {path}", *own, lie))[0]) == before - 1
    assert left((await world.ask(f"GET {path}", BOB))[0]) == of_another - 1


@pytest.mark.parametrize(
    ("field", "is_address"),
    [
        ("X-Tenant:", True),
        ("X_Tenant: acme", True),
        ("X-Other: acme", True),
        ("X-Tenant: 127.0.0.1", False),
        ("X-Tenant: net", False),
        ("X-Tenant: user\r\nX-User-ID: alice", False),
    ],
)
async def test_a_limit_by_a_field_is_that_of_the_address_where_there_is_none(
    world: World, field: str, is_address: bool
) -> None:
    before = left((await world.ask("GET /by-field"))[0])
    answer, _ = await world.ask("GET /by-field", field)
    assert (left(answer) == before - 1) is is_address
    assert left((await world.ask("GET /by-field"))[0]) == before - 1 - is_address
