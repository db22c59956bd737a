"""Whose jobs a whole gateway shows and cancels: tokens, a real process and a real NATS server.

What the handlers do with a caller, and what others must not learn, is in ``test_jobs_owners``;
here it is that the caller is the user of the token, on every way to a job.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import nats as nats_client
import pytest

from siger_gateway.filters.tokens import mint
from tests.conftest import Serve
from tests.jobs_gateway import JOBS
from tests.nats_server import NatsServer
from tests.running import Answer, RunningGateway, eventually

SECRET = "0QmTz7vYp3Lr9sXwK2dHn8cB5fJg1aUe6iRoVtEyMqNxZhWk"
TOKENS = f"auth: {{jwt: {{secret: {SECRET}, algorithms: [HS256]}}}}\n"
ASKING = [("GET", ""), ("GET", "?wait=60s"), ("GET", "/events"), ("DELETE", "")]
"""Every way to ask for one job: a long poll or an event stream that were let in would not end."""


def token(user: str, role: str = "user") -> str:
    """The ``Authorization`` of a user."""
    minted = mint(user, role, SECRET, "HS256", 600.0, "", "", time.time())
    return f"Authorization: Bearer {minted}"


ALICE = token("alice")
BOB = token("bob")
ADMIN = token("root", "admin")
NOBODY = "X-User-ID: alice"
"""No credentials, and a field that only the gateway may send."""


@pytest.fixture
def nats() -> Iterator[NatsServer]:
    with NatsServer() as server:
        yield server


def configured(nats: NatsServer, jobs: str) -> str:
    return f'{TOKENS}consul_address: ""\nnats_address: {nats.address}\njobs: {{{jobs}}}\n'


async def connected(gateway: RunningGateway) -> RunningGateway:
    """The gateway once it can take jobs and list them."""

    async def is_ready() -> bool:
        return (await gateway.get(JOBS, ADMIN)).status == 200

    await eventually(is_ready)
    return gateway


@pytest.fixture
async def gateway(serve: Serve, nats: NatsServer) -> RunningGateway:
    return await connected(await serve(configured(nats, "auth: required")))


async def submit(gateway: RunningGateway, who: str, *fields: str) -> str:
    answer = await gateway.request(
        f"POST {JOBS}",
        who,
        "Content-Type: application/json",
        *fields,
        body=b'{"type":"train","name":"a job"}',
    )
    assert answer.status == 202, answer
    return str(answer.json["job_id"])


async def listed(gateway: RunningGateway, who: str, query: str = "") -> list[str]:
    answer = await gateway.get(JOBS + query, who)
    assert answer.status == 200, answer
    return [job["job_id"] for job in answer.json["jobs"]]


def refused(answer: Answer, status: int, reason: str) -> dict[str, Any]:
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["reason"] == reason
    return dict(answer.json)


@asynccontextmanager
async def stream(nats: NatsServer) -> AsyncIterator[Any]:
    """The stream ``jobs``, seen by a client of its own."""
    client = await nats_client.connect(nats.address)
    try:
        yield client.jetstream()
    finally:
        await client.close()


async def messages(nats: NatsServer) -> list[tuple[str, dict[str, Any]]]:
    """Everything in the stream, as ``(subject, document)``."""
    async with stream(nats) as js:
        last = (await js.stream_info("jobs")).state.last_seq
        stored = [await js.get_msg("jobs", seq=seq) for seq in range(1, last + 1)]
    return [(message.subject, json.loads(message.data)) for message in stored]


@pytest.mark.parametrize("who", [ALICE, ADMIN])
async def test_a_job_is_shown_to_its_user_and_to_admins(
    nats: NatsServer, gateway: RunningGateway, who: str
) -> None:
    job_id = await submit(gateway, ALICE)
    for query in ("", "?wait=10ms"):
        answer = await gateway.get(f"{JOBS}/{job_id}{query}", who)
        assert (answer.status, answer.json["user_id"]) == (200, "alice")
    async with stream(nats) as js:
        await js.publish(f"jobs.status.{job_id}", b'{"status":"completed"}')
    events = await gateway.get(f"{JOBS}/{job_id}/events", who)
    assert events.status == 200
    assert b'"completed"' in events.body


@pytest.mark.parametrize(("method", "path"), ASKING)
async def test_somebody_elses_job_is_not_found_and_nothing_is_published(
    nats: NatsServer, gateway: RunningGateway, method: str, path: str
) -> None:
    job_id, unknown = await submit(gateway, ALICE), str(uuid.uuid4())
    before = await messages(nats)
    documents = []
    for asked in (job_id, unknown):
        answer = await gateway.request(f"{method} {JOBS}/{asked}{path}", BOB)
        document = refused(answer, 404, "not_found")
        assert document.pop("request_id") == answer.headers["x-request-id"]
        assert document.pop("instance") == f"{JOBS}/{asked}{path.partition('?')[0]}"
        documents.append(document)
    assert documents[0] == documents[1]
    assert await messages(nats) == before


@pytest.mark.parametrize(("who", "name"), [(ALICE, "alice"), (ADMIN, "root")])
async def test_a_job_is_cancelled_by_its_user_and_by_admins(
    nats: NatsServer, gateway: RunningGateway, who: str, name: str
) -> None:
    job_id = await submit(gateway, ALICE)
    assert (await gateway.request(f"DELETE {JOBS}/{job_id}", who)).status == 202
    subject, document = (await messages(nats))[-1]
    assert (subject, document["user_id"]) == (f"jobs.cancel.{job_id}", name)


async def test_a_list_holds_the_jobs_that_one_may_see(gateway: RunningGateway) -> None:
    alices, bobs = await submit(gateway, ALICE), await submit(gateway, BOB)
    assert await listed(gateway, ALICE) == [alices]
    assert await listed(gateway, BOB) == [bobs]
    assert await listed(gateway, ADMIN) == [bobs, alices]
    assert await listed(gateway, ADMIN, "?user=alice") == [alices]
    assert await listed(gateway, ALICE, "?user=bob") == []


async def test_one_idempotency_key_of_two_users_is_two_jobs(gateway: RunningGateway) -> None:
    key = "Idempotency-Key: k"
    alices, bobs = await submit(gateway, ALICE, key), await submit(gateway, BOB, key)
    assert alices != bobs
    assert await submit(gateway, ALICE, key) == alices


@pytest.mark.parametrize(("method", "path"), [("POST", None), ("GET", None), *ASKING])
async def test_without_a_token_nothing_is_answered(
    nats: NatsServer, gateway: RunningGateway, method: str, path: str | None
) -> None:
    job_id = await submit(gateway, ALICE)
    before = await messages(nats)
    target = JOBS if path is None else f"{JOBS}/{job_id}{path}"
    answer = await gateway.request(f"{method} {target}", NOBODY)
    refused(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert await messages(nats) == before


async def test_where_a_token_is_optional_those_without_share_their_jobs(
    serve: Serve, nats: NatsServer
) -> None:
    gateway = await connected(await serve(configured(nats, "auth: optional")))
    shared, alices = await submit(gateway, NOBODY), await submit(gateway, ALICE)
    assert await listed(gateway, NOBODY) == [shared]
    assert await listed(gateway, ALICE) == [alices]
    refused(await gateway.get(f"{JOBS}/{alices}", NOBODY), 404, "not_found")
    refused(await gateway.get(f"{JOBS}/{shared}", ALICE), 404, "not_found")


async def test_a_user_who_is_called_anonymous_is_refused(serve: Serve, nats: NatsServer) -> None:
    gateway = await connected(await serve(configured(nats, "auth: optional")))
    await submit(gateway, NOBODY)
    refused(await gateway.get(JOBS, token("anonymous")), 403, "forbidden")
    refused(await gateway.get(JOBS, token("anonymous", "admin")), 403, "forbidden")


async def test_jobs_from_before_authentication_are_shown_to_admins_only(
    serve: Serve, nats: NatsServer
) -> None:
    before = await connected(await serve(configured(nats, "auth: none")))
    job_id = await submit(before, NOBODY)
    gateway = await connected(await serve(configured(nats, "auth: required")))
    assert await listed(gateway, ADMIN) == [job_id]
    assert await listed(gateway, ALICE) == []
    refused(await gateway.request(f"DELETE {JOBS}/{job_id}", ALICE), 404, "not_found")
    assert (await gateway.request(f"DELETE {JOBS}/{job_id}", ADMIN)).status == 202


async def test_a_reload_that_turns_authentication_on_hides_the_jobs_of_nobody(
    serve: Serve, nats: NatsServer
) -> None:
    gateway = await connected(await serve(configured(nats, "auth: none")))
    job_id = await submit(gateway, NOBODY)
    gateway.write_config(configured(nats, "auth: required"))
    assert (await gateway.reload())["message"] == "reloaded"
    refused(await gateway.get(f"{JOBS}/{job_id}"), 401, "unauthenticated")
    refused(await gateway.get(f"{JOBS}/{job_id}", ALICE), 404, "not_found")
    assert (await gateway.get(f"{JOBS}/{job_id}", ADMIN)).status == 200
