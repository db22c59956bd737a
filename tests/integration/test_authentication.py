"""Who gets in, through a real gateway: what each credential leads to, what a service is told."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from siger_gateway.filters.api_keys import hash_of, new_key
from tests.conftest import Serve, Services
from tests.running import Answer, RunningGateway, Served, Upstream, eventually
from tests.tokens import ED25519, OTHER_RSA, P256, RSA, SECRET, document, jwk, part, seal, token

IN_MODULE = pytest.mark.asyncio(loop_scope="module")
"""With the one gateway of this module."""

NOW = time.time()
GOOD: dict[str, Any] = {"user_id": "u-1", "role": "user", "iat": NOW - 1, "exp": NOW + 3600}
KEY, ADMIN_KEY, OLD_KEY, SPARE_KEY = (new_key() for _ in range(4))

KEYS = f"""keys:
- {{id: ci, hash: '{hash_of(KEY)}', user: robot, roles: [user]}}
- {{id: ci-next, hash: '{hash_of(SPARE_KEY)}', user: robot}}
- {{id: root, hash: '{hash_of(ADMIN_KEY)}', user: boss, roles: [admin, user], scopes: [jobs.write]}}
- {{id: old, hash: '{hash_of(OLD_KEY)}', user: robot, expires: 2020-01-01T00:00:00Z}}
"""

CONFIG = """
auth:
  jwt: {secret: "%s", issuer: dante, audience: api, leeway: 10m}
  api_keys: %s
services: {s: {endpoints: ["%s"]}}
routes:
- {name: open, service: s, match: {path_prefix: /open}}
- {name: who, service: s, match: {path_prefix: /who}, auth: required}
- {name: maybe, service: s, match: {path_prefix: /maybe}, auth: optional}
- {name: admins, service: s, match: {path_prefix: /admins}, auth: required, roles: [admin, root]}
- {name: scoped, service: s, match: {path_prefix: /scoped}, auth: required, scopes: [jobs.write]}
"""


def claims(**changes: Any) -> dict[str, Any]:
    """Good claims but for ``changes``; None takes a claim away."""
    changed = {**GOOD, "iss": "dante", "aud": "api", **changes}
    return {name: value for name, value in changed.items() if value is not None}


def bearer(data: bytes) -> str:
    return f"Authorization: Bearer {data.decode('latin-1')}"


def jwt(**changes: Any) -> str:
    return bearer(token(claims(**changes)))


def unsigned(header: object, payload: object = None, signature: bytes = b"") -> str:
    return bearer(b".".join((part(header), part(payload or claims()), signature)))


HEADER, PAYLOAD, SIGNATURE = token(claims()).split(b".")
PUBLIC = json.dumps(jwk(RSA, "k"))

# fmt: off
# ruff: noqa: E501 - a table reads best with a row to a line
CREDENTIALS: list[tuple[str, list[str], int, str]] = [
    # tokens that let in
    ("good", [jwt()], 200, ""),
    ("scheme in lower case", [f"authorization: bearer {token(claims()).decode()}"], 200, ""),
    ("spaces before the token", [f"Authorization: Bearer   {token(claims()).decode()}"], 200, ""),
    ("sub in place of user_id", [jwt(user_id=None, sub="u-1")], 200, ""),
    ("user_id beside a sub", [jwt(sub="alice")], 200, ""),
    ("a number as user_id", [jwt(user_id=7)], 200, ""),
    ("several audiences", [jwt(aud=["web", "api"])], 200, ""),
    ("type access", [jwt(type="access")], 200, ""),
    ("no iat", [jwt(iat=None)], 200, ""),
    ("expired within the leeway", [jwt(exp=NOW - 5)], 200, ""),
    ("at+jwt", [bearer(token(claims(), typ="at+jwt"))], 200, ""),
    ("an unknown kid is no matter with a secret", [bearer(token(claims(), kid="x"))], 200, ""),
    # keys that let in
    ("key", [f"X-API-Key: {KEY}"], 200, ""),
    ("second key of a user", [f"x-api-key: {SPARE_KEY}"], 200, ""),
    ("key beside another scheme", [f"X-API-Key: {KEY}", "Authorization: Basic dTpw"], 200, ""),
    # nothing
    ("nothing", [], 401, "unauthenticated"),
    ("another scheme", ["Authorization: Basic dTpw"], 401, "unauthenticated"),
    ("an empty Authorization", ["Authorization:"], 401, "unauthenticated"),
    ("a token without scheme", [f"Authorization: {token(claims()).decode()}"], 401, "unauthenticated"),
    ("a cookie", [f"Cookie: token={token(claims()).decode()}"], 401, "unauthenticated"),
    ("who it would like to be", ["X-User-ID: boss", "X-User-Role: admin"], 401, "unauthenticated"),
    # in a bad form
    ("Bearer alone", ["Authorization: Bearer"], 401, "bad_credentials"),
    ("Bearer and spaces", ["Authorization: Bearer  "], 401, "bad_credentials"),
    ("a tab before the token", [f"Authorization: Bearer\t{token(claims()).decode()}"], 401, "bad_credentials"),
    ("a scheme that begins so", ["Authorization: Bearers x"], 401, "unauthenticated"),
    ("two tokens", [jwt(), jwt()], 401, "bad_credentials"),
    ("a token and another scheme", [jwt(), "Authorization: Basic dTpw"], 401, "bad_credentials"),
    ("two keys", [f"X-API-Key: {KEY}", f"X-API-Key: {KEY}"], 401, "bad_credentials"),
    ("token and key", [jwt(), f"X-API-Key: {KEY}"], 401, "bad_credentials"),
    ("bad token and good key", [jwt(exp=1), f"X-API-Key: {KEY}"], 401, "bad_credentials"),
    # no tokens
    ("a word", [bearer(b"word")], 401, "token_malformed"),
    ("two parts", [bearer(HEADER + b"." + PAYLOAD)], 401, "token_malformed"),
    ("four parts", [bearer(token(claims()) + b".x")], 401, "token_malformed"),
    ("five parts, encrypted", [bearer(b"a.b.c.d.e")], 401, "token_malformed"),
    ("dots", [bearer(b"..")], 401, "token_malformed"),
    ("padding", [bearer(HEADER + b"=." + PAYLOAD + b"." + SIGNATURE)], 401, "token_malformed"),
    ("base64 with + and /", [bearer(b"+/+/." + PAYLOAD + b"." + SIGNATURE)], 401, "token_malformed"),
    ("a space inside", [bearer(HEADER + b" ." + PAYLOAD + b"." + SIGNATURE)], 401, "token_malformed"),
    ("a list of tokens", [bearer(token(claims()) + b", " + token(claims()))], 401, "token_malformed"),
    ("unicode", [bearer("é.ü.ß".encode("latin-1"))], 401, "token_malformed"),
    ("header that is no JSON", [bearer(seal(part("{"), PAYLOAD))], 401, "token_malformed"),
    ("header with a member twice", [bearer(seal(part('{"alg":"HS256","alg":"none"}'), PAYLOAD))], 401, "token_malformed"),
    ("payload that is no JSON", [bearer(seal(HEADER, part("[")))], 401, "token_malformed"),
    ("payload with a member twice", [bearer(seal(HEADER, part('{"sub":"a","sub":"b","exp":9999999999}')))], 401, "token_malformed"),
    ("critical extension", [bearer(token(claims(), crit=["b64"]))], 401, "token_malformed"),
    ("oversized", [bearer(token(claims(pad="x" * 9000)))], 401, "token_malformed"),
    # signed by somebody else, or by nobody
    ("alg none", [unsigned({"alg": "none"})], 401, "token_algorithm"),
    ("alg None", [unsigned({"alg": "None"})], 401, "token_algorithm"),
    ("alg none with the signature of another", [unsigned({"alg": "none"}, signature=SIGNATURE)], 401, "token_algorithm"),
    ("no alg", [unsigned({"typ": "JWT"})], 401, "token_algorithm"),
    ("alg in lower case", [bearer(seal(part({"alg": "hs256"}), PAYLOAD))], 401, "token_algorithm"),
    ("alg as a list", [unsigned({"alg": ["HS256"]})], 401, "token_algorithm"),
    ("a stronger alg of the same secret", [bearer(token(claims(), alg="HS512"))], 401, "token_algorithm"),
    ("alg confusion", [bearer(token(claims(), RSA, "RS256"))], 401, "token_algorithm"),
    ("the public key as the secret", [bearer(seal(HEADER, PAYLOAD, PUBLIC))], 401, "token_signature"),
    ("another secret", [bearer(token(claims(), "a" * 64))], 401, "token_signature"),
    ("no signature", [bearer(HEADER + b"." + PAYLOAD + b".")], 401, "token_signature"),
    ("tampered payload", [bearer(HEADER + b"." + part(claims(role="admin")) + b"." + SIGNATURE)], 401, "token_signature"),
    ("tampered header", [bearer(part({"alg": "HS256"}) + b"." + PAYLOAD + b"." + SIGNATURE)], 401, "token_signature"),
    ("key of its own", [bearer(seal(part({"alg": "HS256", "jwk": jwk(RSA, "k")}), PAYLOAD, "x"))], 401, "token_signature"),
    # not now, not here, not for this
    ("expired", [jwt(exp=NOW - 3600)], 401, "token_expired"),
    ("expired in 1970", [jwt(exp=0)], 401, "token_expired"),
    ("not yet valid", [jwt(nbf=NOW + 7200)], 401, "token_not_yet_valid"),
    ("from the future", [jwt(iat=NOW + 7200)], 401, "token_not_yet_valid"),
    ("another issuer", [jwt(iss="evil")], 401, "token_issuer"),
    ("no issuer", [jwt(iss=None)], 401, "token_issuer"),
    ("another audience", [jwt(aud="billing")], 401, "token_audience"),
    ("no audience", [jwt(aud=None)], 401, "token_audience"),
    ("audience in a longer text", [jwt(aud="api2")], 401, "token_audience"),
    ("refresh token", [jwt(type="refresh")], 401, "token_type"),
    ("refresh token in capitals", [jwt(token_type="Refresh")], 401, "token_type"),
    ("id token", [jwt(typ="ID")], 401, "token_type"),
    ("logout token", [bearer(token(claims(), typ="logout+jwt"))], 401, "token_type"),
    # claims that cannot be used
    ("missing exp", [jwt(exp=None)], 401, "token_claims"),
    ("exp as text", [jwt(exp="9999999999")], 401, "token_claims"),
    ("exp in milliseconds", [jwt(exp=(NOW + 60) * 1000)], 401, "token_claims"),
    ("exp as truth", [jwt(exp=True)], 401, "token_claims"),
    ("no user", [jwt(user_id=None)], 401, "token_claims"),
    ("empty user", [jwt(user_id="")], 401, "token_claims"),
    ("user with a line break", [jwt(user_id="a\r\nX-User-Role: admin")], 401, "token_claims"),
    ("unicode user", [jwt(user_id="ålice")], 401, "token_claims"),
    ("user of another kind, with a sub", [jwt(user_id={"a": 1}, sub="u-1")], 401, "token_claims"),
    ("endless user", [jwt(user_id="x" * 300)], 401, "token_claims"),
    ("role of another kind", [jwt(role=["admin"])], 401, "token_claims"),
    # keys
    ("unknown key", [f"X-API-Key: {new_key()}"], 401, "api_key_unknown"),
    ("empty key", ["X-API-Key:"], 401, "api_key_unknown"),
    ("hash of a key", [f"X-API-Key: {hash_of(KEY)}"], 401, "api_key_unknown"),
    ("key and one character", [f"X-API-Key: {KEY}x"], 401, "api_key_unknown"),
    ("key in capitals", [f"X-API-Key: {KEY.upper()}"], 401, "api_key_unknown"),
    ("half a key", [f"X-API-Key: {KEY[:20]}"], 401, "api_key_unknown"),
    ("oversized key", [f"X-API-Key: {'k' * 5000}"], 401, "api_key_unknown"),
    ("unicode key", ["X-API-Key: clé"], 401, "api_key_unknown"),
    ("expired key", [f"X-API-Key: {OLD_KEY}"], 401, "api_key_expired"),
]
# fmt: on


async def tell(upstream: Upstream, served: Served) -> None:
    """A service that answers with what it has been told."""
    told = {name: served.field(name) for name in ("x-user-id", "x-user-role", "x-api-key")}
    await served.ok(json.dumps(told).encode())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningGateway]:
    folder = tmp_path_factory.mktemp("authentication")
    (folder / "keys.yaml").write_text(KEYS)
    service = Upstream(tell)
    await service.start()
    config = CONFIG % (SECRET, folder / "keys.yaml", service.address)
    running = RunningGateway(folder, config)
    await running.start()
    yield running
    await running.stop()
    await service.stop()


def reason_of(answer: Answer) -> str:
    return "" if answer.status == 200 else str(answer.json["reason"])


@pytest.mark.parametrize(
    ("fields", "status", "reason"),
    [row[1:] for row in CREDENTIALS],
    ids=[row[0] for row in CREDENTIALS],
)
@IN_MODULE
async def test_each_credential_has_its_status_and_reason(
    gateway: RunningGateway, fields: list[str], status: int, reason: str
) -> None:
    answer = await gateway.get("/who", *fields)
    assert (answer.status, reason_of(answer)) == (status, reason)
    assert ("www-authenticate" in answer.headers) == (status == 401)
    if status == 401:
        assert f'details="{reason}"' in answer.headers["proxy-status"]
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("fields", "status", "reason"),
    [row[1:] for row in CREDENTIALS],
    ids=[row[0] for row in CREDENTIALS],
)
@IN_MODULE
async def test_where_they_are_optional_only_bad_ones_are_refused(
    gateway: RunningGateway, fields: list[str], status: int, reason: str
) -> None:
    answer = await gateway.get("/maybe", *fields)
    expected = (200, "") if reason == "unauthenticated" else (status, reason)
    assert (answer.status, reason_of(answer)) == expected
    if reason == "unauthenticated":
        assert answer.json["x-user-id"] == []


@IN_MODULE
async def test_a_service_is_told_who_asks(gateway: RunningGateway) -> None:
    told = (await gateway.get("/who", jwt(roles=["b", "a"]), "X-User-ID: boss")).json
    assert told == {"x-user-id": ["u-1"], "x-user-role": ["a,b,user"], "x-api-key": []}
    told = (await gateway.get("/who", f"X-API-Key: {ADMIN_KEY}", "X_User_Role: root")).json
    assert told == {"x-user-id": ["boss"], "x-user-role": ["admin,user"], "x-api-key": []}


@IN_MODULE
async def test_on_an_open_route_nobody_is_anybody(gateway: RunningGateway) -> None:
    told = (await gateway.get("/open", jwt(exp=1), "X-User-ID: boss", "X-User-Role: admin")).json
    assert told == {"x-user-id": [], "x-user-role": [], "x-api-key": []}


@pytest.mark.parametrize(
    ("path", "field", "status"),
    [
        ("/admins", jwt(), 403),
        ("/admins", jwt(role="admin"), 200),
        ("/admins", jwt(roles=["root"]), 200),
        ("/admins", jwt(role="administrator"), 403),
        ("/admins", jwt(role="Admin"), 403),
        ("/admins", f"X-API-Key: {KEY}", 403),
        ("/admins", f"X-API-Key: {ADMIN_KEY}", 200),
        ("/scoped", jwt(scope="jobs.read jobs.write"), 200),
        ("/scoped", jwt(scope="jobs.writer"), 403),
        ("/scoped", jwt(role="admin"), 403),
        ("/scoped", f"X-API-Key: {ADMIN_KEY}", 200),
        ("/scoped", f"X-API-Key: {KEY}", 403),
    ],
    ids=range(12),
)
@IN_MODULE
async def test_roles_and_scopes_are_asked_for(
    gateway: RunningGateway, path: str, field: str, status: int
) -> None:
    answer = await gateway.get(path, field)
    assert answer.status == status
    if status == 403:
        assert reason_of(answer) == "forbidden"


@IN_MODULE
async def test_the_access_log_says_who_it_was_and_never_with_what(gateway: RunningGateway) -> None:
    await gateway.get("/who?token=hush&a=1", f"X-API-Key: {KEY}", "X-Request-ID: logged")
    line = await gateway.access("logged")
    assert (line["user"], line["key_id"], line["query"]) == ("robot", "ci", "token=***&a=1")
    assert KEY not in gateway.access_log.read_text()


@IN_MODULE
async def test_own_endpoints_ask_for_nothing(gateway: RunningGateway) -> None:
    for path in ("/health", "/metrics", "/openapi.json"):
        assert (await gateway.get(path, "Authorization: Bearer x")).status == 200


# With gateways of their own.


async def test_keys_are_handed_out_and_taken_back_without_a_reload(
    serve: Serve, services: Services, tmp_path: Path
) -> None:
    (service,) = await services(tell)
    keys = tmp_path / "keys.yaml"
    keys.write_text(KEYS)
    gateway = await serve(CONFIG % (SECRET, keys, service.address))
    fresh = new_key()

    async def is_in(key: str) -> bool:
        return (await gateway.get("/who", f"X-API-Key: {key}")).status == 200

    assert await is_in(KEY)
    assert not await is_in(fresh)
    keys.write_text(f"keys: [{{id: new, hash: '{hash_of(fresh)}', user: robot}}]")
    await eventually(lambda: is_in(fresh))
    assert not await is_in(KEY)
    keys.write_text("keys: [{id: broken}]")
    await gateway.line("changed API keys are not used")
    assert await is_in(fresh)


async def test_new_keys_of_the_issuer_lose_no_request(serve: Serve, services: Services) -> None:
    """The issuer changes its keys again and again while requests go on."""
    published = [jwk(RSA, "one")]
    fetches = 0

    async def issue(upstream: Upstream, served: Served) -> None:
        nonlocal fetches
        fetches += 1
        await served.ok(document(*published))

    service, issuer = await services(tell, issue)
    gateway = await serve(
        f"auth: {{jwt: {{jwks_url: 'http://{issuer.address}/keys', refresh: 10s,"
        " algorithms: [RS256, ES256, EdDSA]}}\n"
        f"services: {{s: {{endpoints: ['{service.address}']}}}}\n"
        "routes: [{name: r, service: s, match: {path_prefix: /}, auth: required}]\n"
    )
    signed = {
        "one": bearer(token(claims(), RSA, "RS256", kid="one")),
        "two": bearer(token(claims(), P256, "ES256", kid="two")),
    }
    statuses: list[int] = []
    stop = asyncio.Event()

    async def ask(kid: str) -> None:
        async with gateway.connect() as client:
            while not stop.is_set():
                statuses.append((await client.request("GET /", signed[kid])).status)

    first = [asyncio.create_task(ask("one")) for _ in range(4)]
    await eventually(lambda: _at_least(statuses, 100))
    published.append(jwk(P256, "two"))  # both are valid for a while, as in every rotation
    second = [asyncio.create_task(ask("two")) for _ in range(4)]
    await eventually(lambda: _at_least(statuses, 1000))
    stop.set()
    await asyncio.gather(*first, *second)
    assert set(statuses) == {200}
    forged = bearer(token(claims(), OTHER_RSA, "RS256", kid="one"))
    assert reason_of(await gateway.get("/", forged)) == "token_signature"
    unknown = bearer(token(claims(), ED25519, "EdDSA", kid="three"))
    before = fetches
    answers = await asyncio.gather(*[gateway.get("/", unknown) for _ in range(50)])
    assert {reason_of(answer) for answer in answers} == {"token_key_unknown"}
    assert fetches - before <= 2  # all of them wait for one fetch, or the next


async def _at_least(statuses: list[int], count: int) -> bool:
    return len(statuses) >= count
