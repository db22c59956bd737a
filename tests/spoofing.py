"""A gateway for clients that lie: every policy, one service that remembers what it was told.

``direct`` believes nobody; ``behind`` stands behind a proxy on 127.0.0.1, which every test is.
Both serve the same routes, and a response says by ``x-route`` which of them took the request.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from siger_gateway.filters.api_keys import hash_of, new_key
from siger_gateway.filters.headers import IDENTITY_FIELDS
from siger_gateway.filters.tokens import mint
from tests.running import Answer, RunningGateway, Served, Upstream, answer_ok

SECRET = "Jx8vQ2mT7bL4cN9wR5yH1kF6dG3sP0aZ-eU.iO_tXqWvBnMz"
KEY = new_key()
OTHER_KEY = new_key()
HOST = "gateway.test"
DAY = 86400

KEYS = f"""keys:
- {{id: ci, hash: "{hash_of(KEY)}", user: robot, roles: [user]}}
- {{id: ops, hash: "{hash_of(OTHER_KEY)}", user: root, roles: [admin]}}
"""


def token(user: str, role: str) -> str:
    return mint(user, role, SECRET, "HS256", 3600.0, "", "", time.time())


ALICE = f"Authorization: Bearer {token('alice', 'user')}"
BOB = f"Authorization: Bearer {token('bob', 'user')}"
ADMIN = f"Authorization: Bearer {token('root', 'admin')}"
ROBOT = f"X-API-Key: {KEY}"
OPERATOR = f"X-API-Key: {OTHER_KEY}"

AS_ALICE = {"x-user-id": ["alice"], "x-user-role": ["user"]}
AS_ROBOT = {"x-user-id": ["robot"], "x-user-role": ["user"]}
AS_NOBODY: dict[str, list[str]] = {}

POLICIES = {
    "private": "auth: required",
    "admin": "auth: required, roles: [admin]",
    "maybe": "auth: optional",
    "open": "auth: none",
    "by-address": f"rate_limit: {{requests: 1000, per: {DAY}s}}",
    "by-user": f"auth: optional, rate_limit: {{requests: 1000, per: {DAY}s, key: user}}",
    "by-key": f"auth: optional, rate_limit: {{requests: 1000, per: {DAY}s, key: api_key}}",
    "by-field": f'rate_limit: {{requests: 1000, per: {DAY}s, key: "header:x-tenant"}}',
    "inside": "allow: [127.0.0.0/8]",
    "outside": "deny: [127.0.0.0/8]",
    "office": 'allow: [203.0.113.7, "2001:db8:1::/48"]',
}
"""Name of a route -> its policy; each takes what is below a path of that name."""


def config(upstream: Upstream, keys: Path, more: Iterable[str], rest: str) -> str:
    named = [f"{{path_prefix: /{name}}}|{name}|{policy}" for name, policy in POLICIES.items()]
    routes = []
    for line in (*named, *more):
        match, name, policy = line.split("|")
        routes.append(
            f"- {{name: {name}, match: {match}, service: s, {policy}, "
            f"headers: {{response: {{set: {{x-route: {name}}}}}}}}}\n"
        )
    return (
        'consul_address: ""\nnats_address: ""\nadmin: {port: ""}\nlog_level: debug\n'
        f"auth: {{jwt: {{secret: {SECRET}}}, api_keys: {keys}}}\n"
        f'services: {{s: {{endpoints: ["{upstream.address}"]}}}}\n'
        f"{rest}routes:\n{''.join(routes)}"
    )


MORE = (
    "{path_prefix: /, host: admin.test}|host-admin|auth: required, roles: [admin]",
    '{path_prefix: /, host: "*.inner.test"}|host-inner|auth: required',
    "{path_prefix: /tenants, headers: {x-tenant: acme}}|tenant|auth: required",
    "{path_prefix: /verbs, methods: [DELETE, PUT]}|verbs-write|auth: required, roles: [admin]",
    "{path_prefix: /verbs}|verbs-read|auth: none",
    "{path: /users/@me}|me|auth: required",
    "{path: /stra%C3%9Fe}|street|auth: required",
    '{path: "/books/{id}"}|book|auth: none',
    "{path_prefix: /}|rest|auth: none",
)
"""Routes that tell requests apart by more than their path, and the one for all that is left."""


@dataclass
class World:
    """Both gateways and the service."""

    direct: RunningGateway
    behind: RunningGateway
    upstream: Upstream

    async def send(
        self, head: str, *, body: bytes = b"", of: RunningGateway | None = None
    ) -> tuple[Answer, Served | None]:
        """What came of a head, given without its empty line, and what the service saw of it."""
        self.upstream.served.clear()
        async with (of or self.direct).connect() as client:
            await client.send(head.encode("latin-1") + b"\r\n\r\n" + body)
            answer = await client.answer(head_only=head.startswith("HEAD "))
        return answer, self.upstream.served[-1] if self.upstream.served else None

    async def ask(
        self, line: str, *fields: str, host: str = HOST, of: RunningGateway | None = None
    ) -> tuple[Answer, Served | None]:
        """``send`` of a request without a body."""
        return await self.send("\r\n".join([f"{line} HTTP/1.1", f"Host: {host}", *fields]), of=of)


async def start(folder: Path) -> World:
    upstream = Upstream(answer_ok)
    await upstream.start()
    keys = folder / "keys.yaml"
    keys.write_text(KEYS)
    keys.chmod(0o600)
    gateways = []
    for name, rest in (("direct", ""), ("behind", "trusted_proxies: [127.0.0.1]\n")):
        (folder / name).mkdir()
        gateway = RunningGateway(folder / name, config(upstream, keys, MORE, rest))
        gateways.append(gateway)
        await gateway.start()
    return World(*gateways, upstream)


def told(served: Served | None) -> dict[str, list[str]]:
    """Who the service was told that the user is, by whatever name a field has."""
    assert served is not None
    found: dict[str, list[str]] = {}
    for name, value in served.fields:
        if name.lower().encode() in IDENTITY_FIELDS:
            found.setdefault(name, []).append(value)
    return found


def left(answer: Answer) -> int:
    """Requests that the client has left of its limit."""
    return int(answer.headers["ratelimit"].split(";r=")[1].split(";")[0])
