"""However a client writes its request: the route whose policy holds is the one that the service
would take it for."""

from __future__ import annotations

import pytest

from tests.spoofing import (
    ADMIN,
    ALICE,
    AS_ALICE,
    HOST,
    World,
    left,
    told,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


# The host.


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("admin.test", 401),
        ("ADMIN.test", 401),
        ("Admin.Test:80", 401),
        ("admin.test:", 401),
        ("admin.test:65535", 401),
        ("admin.test.", 401),
        ("admin.test.:8080", 401),
        ("ADMIN.TEST.", 401),
        ("a.inner.test", 401),
        ("a.b.INNER.test:1", 401),
        ("a.inner.test.", 401),
        ("admin.test..", "rest"),
        ("inner.test", "rest"),
        ("xinner.test", "rest"),
        ("admin.test.evil.example", "rest"),
        ("evil.admin.test", "rest"),
        ("", 400),
        ("admin.test,other.test", 400),
        ("other.test, admin.test", 400),
        ("admin.test other.test", 400),
        ("admin.test/", 400),
        ("user@admin.test", 400),
        ("admin.test#", 400),
        ("admin.test?", 400),
        ("admin.test:80:80", 400),
        ("admin.test:x", 400),
        ("admin.test\\other.test", 400),
        ("[::1", 400),
        ('"admin.test"', 400),
    ],
)
async def test_the_host_is_one_host_in_every_spelling(
    world: World, host: str, expected: int | str
) -> None:
    answer, served = await world.ask("GET /x", host=host)
    if isinstance(expected, str):
        assert (answer.status, answer.headers["x-route"]) == (200, expected)
    else:
        assert (answer.status, served) == (expected, None)


@pytest.mark.parametrize(
    "head",
    [
        f"GET /x HTTP/1.1\r\nHost: {HOST}\r\nHost: admin.test",
        f"GET /x HTTP/1.1\r\nHost: admin.test\r\nhost: {HOST}",
        f"GET /x HTTP/1.1\r\nHost: {HOST}\r\nHost: {HOST}",
        "GET /x HTTP/1.1",
        f"GET /x HTTP/1.0\r\nHost: {HOST}\r\nHost: admin.test",
        f"GET http://admin.test/x HTTP/1.1\r\nHost: {HOST}",
        f"GET http://{HOST}/x HTTP/1.1\r\nHost: admin.test",
        f"GET http://{HOST}/admin HTTP/1.1\r\nHost: {HOST}",
        f"GET //admin.test/x#a HTTP/1.1\r\nHost: {HOST}",
        f"GET admin.test HTTP/1.1\r\nHost: {HOST}",
        f"GET x HTTP/1.1\r\nHost: {HOST}",
        f"GET * HTTP/1.1\r\nHost: {HOST}",
        f"GET ?x HTTP/1.1\r\nHost: {HOST}",
        f"CONNECT admin.test:443 HTTP/1.1\r\nHost: {HOST}",
        f"CONNECT /admin HTTP/1.1\r\nHost: {HOST}",
        f"GET /open /admin HTTP/1.1\r\nHost: {HOST}",
        f"GET /open\tHTTP/1.1 HTTP/1.1\r\nHost: {HOST}",
        f"GET /open#/../admin HTTP/1.1\r\nHost: {HOST}",
    ],
)
async def test_what_names_two_hosts_or_two_targets_is_no_request(world: World, head: str) -> None:
    answer, served = await world.send(head)
    assert (answer.status, served) == (400, None)


@pytest.mark.parametrize(
    "field",
    [
        *("X-Forwarded-Host: admin.test", "Forwarded: host=admin.test", "X-Host: admin.test"),
        *("X-Original-Host: admin.test", "x_forwarded_host: admin.test", "X-HTTP-Host: admin.test"),
    ],
)
async def test_another_field_than_host_leads_to_no_other_route(world: World, field: str) -> None:
    for of in (world.direct, world.behind):
        answer, served = await world.ask("GET /x", field, of=of)
        assert answer.headers["x-route"] == "rest"
        answer, served = await world.ask(
            "GET /x", field.replace("admin", "open"), host="admin.test", of=of
        )
        assert (answer.status, served) == (401, None)
    _, served = await world.ask("GET /x", field)
    assert served is not None
    assert served.field("x-forwarded-host") == [HOST]
    assert not served.field("x_forwarded_host")


# The path.


@pytest.mark.parametrize(
    ("target", "route"),
    [
        ("/admin", "admin"),
        ("/admin/", "admin"),
        ("/admin?", "admin"),
        ("/admin?/../open", "admin"),
        ("//admin", "admin"),
        ("///admin//x", "admin"),
        ("//evil.example/admin", "rest"),
        ("/%61dmin", "admin"),
        ("/%61%64%6D%69%6e", "admin"),
        ("/adm%69n/x", "admin"),
        ("//%61dmin", "admin"),
        ("/users/@me", "me"),
        ("/stra%C3%9Fe", "street"),
        ("/stra%c3%9fe", "street"),
        ("/stra%c3%9Fe", "street"),
        ("/%73tra%C3%9fe", "street"),
        ("/ADMIN", "rest"),
        ("/administrator", "rest"),
        ("/open?x=/admin", "open"),
        ("/open?x=..%2fadmin", "open"),
        ("/open?;/admin", "open"),
        ("/open/admin", "open"),
        ("/open/a%2Fb", "open"),
        ("/open/a;v=1/b", "open"),
        ("/open/100%25", "open"),
        ("/books/a%2Fb", "book"),
        ("/books/a%3Bb", "book"),
        ("/books/x;v=1", "book"),
    ],
)
async def test_a_path_leads_to_its_route_in_every_spelling(
    world: World, target: str, route: str
) -> None:
    answer, served = await world.ask(f"GET {target}", ADMIN)
    assert (answer.status, answer.headers.get("x-route")) == (200, route)
    assert served is not None
    assert served.line == f"GET {target} HTTP/1.1"


@pytest.mark.parametrize(
    "target",
    [
        "/open/\x80\xff\x85",
        "/open?a=\x80\xe9",
        "/open/../admin",
        "/open/..",
        "/open/./admin",
        "/./admin",
        "/../admin",
        "/..",
        "/open/%2e%2e/admin",
        "/open/%2E./admin",
        "/open/.%2e/admin",
        "/open/..;/admin",
        "/open/..;x=1/admin",
        "/open/%2e%2e;/admin",
        "/open/%2e%2e%3bx/admin",
        "/open/..%2fadmin",
        "/open/..%2Fadmin",
        "/open%2f..%2fadmin",
        "/open%2f%2e%2e%2fadmin",
        "/open/..%5cadmin",
        "/open\\..\\admin",
        "/open\\admin",
        "\\admin",
        "/admin%00",
        "/open/%00/../admin",
        "/open/x%0d%0aX-User-ID:%20root",
        "/open/%0a",
        "/open/%7f",
        "/open/%",
        "/open/%2",
        "/open/%zz",
        "/open/%u002e%u002e/admin",
        "/admin%",
    ],
)
async def test_a_path_that_could_lead_elsewhere_is_refused(world: World, target: str) -> None:
    answer, served = await world.ask(f"GET {target}", ADMIN)
    assert (answer.status, served) == (400, None)


@pytest.mark.parametrize(
    "target",
    [
        "/admin;x",
        "/admin;",
        "/admin;jsessionid=1/users",
        "/;x/admin",
        "/;/admin/users",
        "/admin%2fusers",
        "/admin%2Fusers",
        "/%2fadmin",
        "/%2Fadmin/users",
        "/admin%5cusers",
        "/admin%3bx",
        "/admin%3Bx/users",
        "/%61dmin%2fusers",
        "/admin%2f",
        "/;x%2fadmin",
        "/users/%40me",
        "/private%2f..x",
    ],
)
async def test_a_path_that_a_service_may_read_as_a_guarded_one_does_not_get_past_the_guard(
    world: World, target: str
) -> None:
    """Go's ServeMux, Starlette and others decode before they match, servlets drop parameters."""
    answer, served = await world.ask(f"GET {target}")
    assert (answer.status, served) == (400, None)
    assert answer.json["reason"] == "bad_path"


@pytest.mark.parametrize(
    "fields",
    [
        ("X-Original-URL: /admin",),
        ("X-Rewrite-URL: /admin",),
        ("X-Forwarded-Path: /admin", "X-Forwarded-Prefix: /admin"),
        ("X-Forwarded-Uri: /admin",),
        ("Destination: /admin",),
    ],
)
async def test_no_field_leads_to_another_path(world: World, fields: tuple[str, ...]) -> None:
    answer, _ = await world.ask("GET /open", *fields)
    assert (answer.status, answer.headers["x-route"]) == (200, "open")
    answer, served = await world.ask(
        "GET /admin", *(one.replace("admin", "open") for one in fields)
    )
    assert (answer.status, served) == (401, None)


@pytest.mark.parametrize(
    ("fields", "route"),
    [
        (("X-Tenant: acme",), 401),
        (("x-tenant:acme ",), 401),
        (("X-Tenant: other", "X-Tenant: acme"), 400),
        (("X-Tenant: acme", "X-Tenant: other"), 400),
        (("X-Tenant: acme, other",), "rest"),
        (("X_Tenant: acme",), "rest"),
        (("X-Tenant: ACME",), "rest"),
        (("Connection: x-tenant", "X-Tenant: acme"), 401),
        ((), "rest"),
    ],
)
async def test_a_route_of_a_field_takes_whoever_has_it(
    world: World, fields: tuple[str, ...], route: int | str
) -> None:
    answer, _ = await world.ask("GET /tenants", *fields)
    assert answer.headers.get("x-route", answer.status) == route


# The method.


@pytest.mark.parametrize(
    ("line", "fields", "expected"),
    [
        ("DELETE", (), 401),
        ("PUT", (), 401),
        ("POST", ("X-HTTP-Method-Override: DELETE",), "verbs-read"),
        ("POST", ("X-HTTP-Method: DELETE", "X-Method-Override: DELETE"), "verbs-read"),
        ("DELETE", ("X-HTTP-Method-Override: GET",), 401),
        ("DELETE", ("X-HTTP-Method: GET", "X-Method-Override: GET"), 401),
        ("HEAD", (), "verbs-read"),
        ("delete", (), 400),
        ("Delete", (), 400),
        ("dELETE", (), 400),
        ("DELETE\x00", (), 400),
        ("DELETE\xa0", (), 400),
        ("\xef\xbc\xa4ELETE", (), 400),
        ("FOO", (), 400),
    ],
)
async def test_the_method_is_that_of_the_request_line(
    world: World, line: str, fields: tuple[str, ...], expected: int | str
) -> None:
    answer, served = await world.ask(f"{line} /verbs", *fields)
    assert answer.headers.get("x-route", answer.status) == expected
    assert (served is None) is isinstance(expected, int)


# Upgrade and Expect.


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (("Connection: upgrade", "Upgrade: websocket"), 401),
        (("Connection: upgrade", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"), 401),
        (("Connection: upgrade, x-user-id", "Upgrade: websocket", "X-User-ID: root"), 401),
        (("Expect: 100-continue", "Content-Length: 3"), 401),
        (("Expect: 100-continue", "Transfer-Encoding: chunked"), 401),
        (("Expect: 200-ok",), 417),
        (("Expect: 100-continue", "Expect: x"), 417),
    ],
)
async def test_nothing_is_promised_before_it_is_known_who_asks(
    world: World, fields: tuple[str, ...], status: int
) -> None:
    answer, served = await world.ask("POST /private", *fields)
    assert (answer.status, served) == (status, None)  # and no 100 before it


async def test_what_follows_a_refused_upgrade_is_checked_as_well(world: World) -> None:
    world.upstream.served.clear()
    async with world.direct.connect() as client:
        upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\n"
        first = f"GET /private HTTP/1.1\r\nHost: {HOST}\r\n{upgrade}\r\n"
        second = f"GET /private HTTP/1.1\r\nHost: {HOST}\r\nX-User-ID: root\r\n\r\n"
        third = f"GET /private HTTP/1.1\r\nHost: {HOST}\r\n{ALICE}\r\n\r\n"
        await client.send((first + second + third).encode())
        assert [(await client.answer()).status for _ in range(3)] == [401, 401, 200]
    (served,) = world.upstream.served
    assert told(served) == AS_ALICE


async def test_own_endpoints_are_not_reached_in_another_way(world: World) -> None:
    """``/health`` and ``/metrics`` ask nobody who he is: nothing else may lie behind them."""
    for target in ("/health", "//health", "/%68ealth", "/health?x=/admin"):
        answer, served = await world.ask(f"GET {target}")
        assert answer.status in (200, 404)
        assert served is None
    for value in range(0x20, 0x100):
        if value != 0x7F:
            answer, served = await world.ask("GET /health", f"X-A: a{chr(value)}b{chr(value)}")
            assert (answer.status, served) == (200, None), value
    assert left((await world.ask("GET /by-address"))[0]) > 0
