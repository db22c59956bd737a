"""Client certificates that name users, with Python's own ssl on the other side."""

from __future__ import annotations

import json
import time
from pathlib import Path

from siger_gateway.filters.tokens import mint
from tests.certificates import NAME, Authority
from tests.conftest import Serve, Services
from tests.running import RunningGateway, Served, Upstream

SECRET = "q7Zr8vN1xYw5tBf7mLd0pHs9uCg2aEj4oRi6nTzXyVk"


async def tell(upstream: Upstream, served: Served) -> None:
    await served.ok(json.dumps([served.field("x-user-id"), served.field("x-user-role")]).encode())


async def serving(serve: Serve, services: Services, authority: Authority) -> RunningGateway:
    (upstream,) = await services(tell)
    cert, key = authority.issue("server", NAME)
    gateway = await serve(
        f"tls: {{cert: {cert}, key: {key}, client_ca: {authority.file}, client_auth: optional}}\n"
        f"auth: {{mtls: true, jwt: {{secret: {SECRET}}}}}\n"
        f"services: {{s: {{endpoints: ['{upstream.address}']}}}}\n"
        "routes:\n- {name: r, service: s, match: {path_prefix: /}, auth: required}\n"
        "- {name: a, service: s, match: {path_prefix: /a}, auth: required, roles: [ops]}\n"
    )
    gateway.tls = authority.client()
    return gateway


async def test_a_certificate_names_its_user_and_roles(
    serve: Serve, services: Services, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    gateway = await serving(serve, services, authority)
    assert (await gateway.get("/")).json["reason"] == "unauthenticated"
    alice = authority.issue("alice", "a.test", user="alice", organization="ops")
    gateway.tls = authority.client(alice)
    answer = await gateway.get("/a", "X-User-ID: boss", "X-Request-ID: mtls")
    assert answer.json == [["alice"], ["ops"]]
    assert (await gateway.access("mtls"))["user"] == "alice"
    # Whoever shows a token is who that says, also on a connection with a certificate.
    token = mint("bob", "user", SECRET, "HS256", 60.0, "", "", time.time())
    assert (await gateway.get("/", f"Authorization: Bearer {token}")).json == [["bob"], ["user"]]
    assert (await gateway.get("/", "Authorization: Bearer x")).status == 401


async def test_a_certificate_without_a_usable_name_is_nobodys(
    serve: Serve, services: Services, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    gateway = await serving(serve, services, authority)
    for file, user in (("none", None), ("odd", "älice"), ("space", " ")):
        gateway.tls = authority.client(authority.issue(file, "b.test", user=user))
        assert (await gateway.get("/")).json["reason"] == "unauthenticated"


async def test_the_certificate_of_another_authority_is_nobodys(
    serve: Serve, services: Services, tmp_path: Path
) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    gateway = await serving(serve, services, authority)
    gateway.tls = authority.client(other.issue("mallory", "m.test", user="alice"))
    try:
        answer = await gateway.get("/")
    except (ConnectionError, OSError, EOFError):
        return  # OpenSSL refuses it before there is a request
    assert answer.status == 401
