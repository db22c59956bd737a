"""Whose job it is: users see and cancel their own, admins all, and nobody learns of the others."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from siger_gateway.filters.tokens import mint
from tests.conftest import Serve
from tests.nats_server import NatsServer
from tests.running import Answer, RunningGateway, eventually

SECRET = "q7Zr8vN1xYw5tBf7mLd0pHs9uCg2aEj4oRi6nTzXyVk"
JOBS = "/api/v1/jobs"


def as_user(user: str, role: str = "user") -> str:
    token = mint(user, role, SECRET, "HS256", 3600.0, "", "", time.time())
    return f"Authorization: Bearer {token}"


ALICE, BOB, ADMIN = as_user("alice"), as_user("bob"), as_user("root", "admin")
NOBODY = "X-User-ID: alice"


@pytest.fixture
def nats() -> Iterator[NatsServer]:
    with NatsServer() as server:
        yield server


def config(nats: NatsServer, auth: str) -> str:
    return (
        f"nats_address: 127.0.0.1:{nats.port}\nauth: {{jwt: {{secret: {SECRET}}}}}\n"
        f"jobs: {{auth: {auth}}}\n"
    )


async def start(serve: Serve, nats: NatsServer, auth: str = "required") -> RunningGateway:
    gateway = await serve(config(nats, auth))

    async def ready() -> bool:
        return (await gateway.get(JOBS, ADMIN)).status == 200

    await eventually(ready)
    return gateway


async def submit(gateway: RunningGateway, *fields: str) -> Answer:
    body = json.dumps({"type": "train", "name": "n"}).encode()
    return await gateway.request(
        f"POST {JOBS}", "Content-Type: application/json", *fields, body=body
    )


async def submitted(gateway: RunningGateway, *fields: str) -> str:
    answer = await submit(gateway, *fields)
    assert answer.status == 202, answer
    return str(answer.json["job_id"])


def without_id(answer: Answer) -> dict[str, Any]:
    return {k: v for k, v in answer.json.items() if k not in ("request_id", "instance")}


async def listed(gateway: RunningGateway, who: str, query: str = "") -> list[str]:
    answer = await gateway.get(JOBS + query, who)
    assert answer.status == 200
    return [job["job_id"] for job in answer.json["jobs"]]


async def test_without_credentials_there_are_no_jobs(serve: Serve, nats: NatsServer) -> None:
    gateway = await start(serve, nats)
    for answer in (
        await submit(gateway, NOBODY),
        await gateway.get(JOBS, NOBODY),
        await gateway.get(f"{JOBS}/{'0' * 8}-0000-7000-8000-{'0' * 12}", NOBODY),
    ):
        assert (answer.status, answer.json["reason"]) == (401, "unauthenticated")


async def test_a_job_of_somebody_else_is_as_none(serve: Serve, nats: NatsServer) -> None:
    gateway = await start(serve, nats)
    job = await submitted(gateway, ALICE)
    assert (await gateway.get(f"{JOBS}/{job}", ALICE)).json["user_id"] == "alice"
    assert (await gateway.get(f"{JOBS}/{job}", ADMIN)).status == 200
    nothing = await gateway.get(f"{JOBS}/{'0' * 8}-0000-7000-8000-{'0' * 12}", BOB)
    requests = [f"GET {JOBS}/{job}", f"GET {JOBS}/{job}?wait=30s", f"DELETE {JOBS}/{job}"]
    for line in (*requests, f"GET {JOBS}/{job}/events"):
        answer = await gateway.request(line, BOB)
        assert (answer.status, without_id(answer)) == (404, without_id(nothing))
    assert (await gateway.get(f"{JOBS}/{job}", ALICE)).json["status"] == "queued"
    assert await listed(gateway, BOB) == []
    assert await listed(gateway, ALICE) == [job]
    assert await gateway.metric('siger_job_events_total{status="cancelling"}') == 0


async def test_owners_and_admins_cancel(serve: Serve, nats: NatsServer) -> None:
    gateway = await start(serve, nats)
    for who in (ALICE, ADMIN):
        job = await submitted(gateway, ALICE)
        answer = await gateway.request(f"DELETE {JOBS}/{job}", who)
        assert (answer.status, answer.json["status"]) == (202, "cancelling")


async def test_lists_hold_what_one_may_see(serve: Serve, nats: NatsServer) -> None:
    gateway = await start(serve, nats)
    of_alice = [await submitted(gateway, ALICE) for _ in range(3)]
    of_bob = [await submitted(gateway, BOB) for _ in range(2)]
    of_alice.reverse()
    assert await listed(gateway, ALICE) == of_alice
    assert await listed(gateway, ALICE, "?user=alice") == of_alice
    assert await listed(gateway, ADMIN, "?user=bob") == of_bob[::-1]
    assert len(await listed(gateway, ADMIN)) == 5
    refused = await gateway.get(f"{JOBS}?user=bob", ALICE)
    assert (refused.status, refused.json["reason"]) == (403, "forbidden")
    page = await gateway.get(f"{JOBS}?limit=2", ALICE)
    rest = await gateway.get(page.headers["link"].partition(">")[0][1:], ALICE)
    assert [job["job_id"] for one in (page, rest) for job in one.json["jobs"]] == of_alice


async def test_two_users_may_use_the_same_idempotency_key(serve: Serve, nats: NatsServer) -> None:
    gateway = await start(serve, nats)
    key = "Idempotency-Key: k"
    first, second = await submitted(gateway, ALICE, key), await submitted(gateway, BOB, key)
    assert first != second
    assert await submitted(gateway, ALICE, key) == first
    assert (await gateway.get(f"{JOBS}/{first}", BOB)).status == 404


async def test_events_come_to_the_owner(serve: Serve, nats: NatsServer) -> None:
    gateway = await start(serve, nats)
    job = await submitted(gateway, ALICE)
    async with gateway.connect() as client:
        await client.send(
            f"GET {JOBS}/{job}/events HTTP/1.1\r\nHost: h\r\n{ALICE}\r\n\r\n".encode()
        )
        status, headers = await client.head()
        assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")


async def test_where_credentials_are_optional_nobody_has_what_nobody_submitted(
    serve: Serve, nats: NatsServer
) -> None:
    gateway = await start(serve, nats, "optional")
    job, other = await submitted(gateway, NOBODY), await submitted(gateway, ALICE)
    assert await listed(gateway, NOBODY) == [job]
    assert await listed(gateway, ALICE) == [other]
    assert (await gateway.get(f"{JOBS}/{job}", ALICE)).status == 404
    assert (await gateway.get(f"{JOBS}/{other}", NOBODY)).status == 404
    impostor = await gateway.get(JOBS, as_user("anonymous"))
    assert (impostor.status, impostor.json["reason"]) == (403, "forbidden")


async def test_jobs_from_before_there_were_users_are_the_admins(
    serve: Serve, nats: NatsServer
) -> None:
    gateway = await start(serve, nats, "none")
    job = await submitted(gateway, ALICE)
    assert (await gateway.get(f"{JOBS}/{job}", NOBODY)).json["user_id"] == "anonymous"
    gateway.write_config(config(nats, "required"))
    assert (await gateway.reload())["message"] == "reloaded"
    assert (await gateway.get(f"{JOBS}/{job}", ALICE)).status == 404
    assert (await gateway.get(f"{JOBS}/{job}", ADMIN)).status == 200
    assert await listed(gateway, ADMIN) == [job]
