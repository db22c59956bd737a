"""Whose jobs the endpoints show and cancel: the handlers on the gateway's wire and a real NATS
server, with a caller who is believed. What a token makes of a request is for
``test_jobs_ownership``.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from siger_gateway.jobs.ledger import Ledger
from siger_gateway.jobs.ownership import Actor
from siger_gateway.jobs.status import JobState
from tests.jobs_gateway import (
    JOBS,
    Answer,
    JobsGateway,
    eventually,
    nobody_is_asked,
    saying,
    who_says_so,
)
from tests.nats_server import NatsServer

ALICE = saying("alice")
BOB = saying("bob")
ADMIN = saying("root", "admin")
NOBODY: dict[str, str] = {}

ASKING = [
    ("GET", ""),
    ("GET", "?wait=60s"),
    ("GET", "/events"),
    ("DELETE", ""),
]
"""Every way to ask for one job: a long poll or an event stream that were let in would not end."""


@pytest.fixture
def nats() -> Any:
    with NatsServer() as server:
        yield server


@pytest.fixture
async def gateway(nats: NatsServer) -> AsyncIterator[JobsGateway]:
    async with JobsGateway(nats.address) as gateway:
        gateway.caller = who_says_so
        yield await gateway.live()


async def submit(gateway: JobsGateway, who: dict[str, str], **fields: str) -> str:
    body = {"type": "train", "name": "a job"}
    answer = await gateway.call("POST", JOBS, body, {**who, **fields})
    assert answer.status == 202, answer
    return str(answer.json["job_id"])


async def listed(gateway: JobsGateway, who: dict[str, str], query: str = "") -> list[str]:
    answer = await gateway.call("GET", JOBS + query, headers=who)
    assert answer.status == 200, answer
    return [job["job_id"] for job in answer.json["jobs"]]


async def messages(gateway: JobsGateway) -> list[tuple[str, Any]]:
    """Everything in the stream, as ``(subject, document)``."""
    js = gateway.queue.connection.client().jetstream()
    last = (await js.stream_info("jobs")).state.last_seq
    stored = [await js.get_msg("jobs", seq=seq) for seq in range(1, last + 1)]
    return [(str(message.subject), orjson.loads(message.data or b"")) for message in stored]


def told(answer: Answer, job_id: str) -> tuple[int, Any, Any]:
    """What an answer says, but for its time and the ids of the request and of the job."""
    its_own = ("Date", "X-Request-Id")
    headers = {name: value for name, value in answer.headers.get_all() if name not in its_own}
    document = answer.json
    assert document.pop("request_id") == answer.headers["X-Request-ID"]
    document["instance"] = document["instance"].replace(job_id, "{job_id}")
    return answer.status, headers, document


@pytest.mark.parametrize("who", [ALICE, ADMIN])
async def test_a_job_is_shown_to_its_user_and_to_admins(
    gateway: JobsGateway, who: dict[str, str]
) -> None:
    job_id = await submit(gateway, ALICE)
    for query in ("", "?wait=10ms"):
        answer = await gateway.call("GET", f"{JOBS}/{job_id}{query}", headers=who)
        assert (answer.status, answer.json["user_id"]) == (200, "alice")
    await gateway.report(job_id, status="completed")
    events = await gateway.call("GET", f"{JOBS}/{job_id}/events", headers=who)
    assert events.status == 200
    assert b'"completed"' in events.body
    assert b"alice" not in events.body


@pytest.mark.parametrize(("method", "path"), ASKING)
async def test_somebody_elses_job_is_answered_as_one_that_does_not_exist(
    gateway: JobsGateway, method: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the same words, with as many questions to the stream, and nothing is stored or watched."""

    def no_watch(*_: object) -> None:
        raise AssertionError("somebody watches")

    monkeypatch.setattr("siger_gateway.jobs.ledger.Watch", no_watch)
    jobs = [await submit(gateway, who) for who in (ALICE, ADMIN, NOBODY)]
    before = await messages(gateway)
    stats = gateway.queue.connection.client().stats
    unknown = str(uuid.uuid4())
    answers, questions = [], []
    for job_id in (unknown, *jobs):
        sent = stats["out_msgs"]
        answer = await gateway.call(method, f"{JOBS}/{job_id}{path}", headers=BOB)
        answers.append(told(answer, job_id))
        questions.append(stats["out_msgs"] - sent)
    assert answers[0][0] == 404
    assert answers[0][2]["reason"] == "not_found"
    assert answers == answers[:1] * 4
    assert questions == [1] * 4
    assert await messages(gateway) == before


@pytest.mark.parametrize(("method", "path"), ASKING)
async def test_somebody_elses_job_that_is_not_in_memory_is_not_found_either(
    nats: NatsServer, method: str, path: str
) -> None:
    async with JobsGateway(nats.address, ledger_jobs=1) as gateway:
        gateway.caller = who_says_so
        await gateway.live()
        job_id = await submit(gateway, ALICE)
        await submit(gateway, ALICE)
        await eventually(lambda: len(gateway.ledger) == 1, "one job in memory")
        answer = await gateway.call(method, f"{JOBS}/{job_id}{path}", headers=BOB)
        assert (answer.status, answer.json["reason"]) == (404, "not_found")
        assert (await gateway.call("GET", f"{JOBS}/{job_id}", headers=ALICE)).status == 200


@pytest.mark.parametrize(("method", "path"), ASKING)
async def test_without_nats_somebody_elses_job_cannot_be_told_from_an_unknown_one(
    nats: NatsServer, gateway: JobsGateway, method: str, path: str
) -> None:
    job_id = await submit(gateway, ALICE)
    assert await listed(gateway, ALICE) == [job_id]
    nats.kill()
    await eventually(lambda: not gateway.queue.connected, "the loss is noticed")
    unknown = str(uuid.uuid4())
    for asked in (job_id, unknown):
        answer = await gateway.call(method, f"{JOBS}/{asked}{path}", headers=BOB)
        assert (answer.status, answer.json["reason"]) == (503, "queue_unavailable")
    assert (await gateway.call("GET", f"{JOBS}/{job_id}", headers=ALICE)).status == 200


@pytest.mark.parametrize(("who", "name"), [(ALICE, "alice"), (ADMIN, "root")])
async def test_a_cancel_request_names_who_asked(
    gateway: JobsGateway, who: dict[str, str], name: str
) -> None:
    job_id = await submit(gateway, ALICE)
    assert (await gateway.call("DELETE", f"{JOBS}/{job_id}", headers=who)).status == 202
    subject, document = (await messages(gateway))[-1]
    assert subject == f"jobs.cancel.{job_id}"
    assert (document["job_id"], document["user_id"]) == (job_id, name)


async def test_a_list_holds_the_jobs_of_its_user_page_by_page(gateway: JobsGateway) -> None:
    mine = []
    for _ in range(5):
        await submit(gateway, BOB)
        mine.append(await submit(gateway, ALICE))
        await submit(gateway, NOBODY)
    pages = []
    target = f"{JOBS}?limit=2"
    while True:
        answer = await gateway.call("GET", target, headers=ALICE)
        pages.append([job["job_id"] for job in answer.json["jobs"]])
        assert {job["user_id"] for job in answer.json["jobs"]} == {"alice"}
        if "Link" not in answer.headers:
            break
        target = answer.headers["Link"].split("; ")[0].strip("<>")
    newest = mine[::-1]
    assert pages == [newest[:2], newest[2:4], newest[4:]]
    assert answer.json["next_cursor"] is None


async def test_admins_list_the_jobs_of_all_or_of_some_users(gateway: JobsGateway) -> None:
    jobs = [await submit(gateway, who) for who in (ALICE, BOB, NOBODY, BOB)]
    assert await listed(gateway, ADMIN) == jobs[::-1]
    assert await listed(gateway, ADMIN, "?user=bob") == [jobs[3], jobs[1]]
    assert await listed(gateway, ADMIN, "?user=alice&user=anonymous") == [jobs[2], jobs[0]]
    assert await listed(gateway, ADMIN, "?user=carol") == []
    answer = await gateway.call("GET", f"{JOBS}?user=bob&limit=1", headers=ADMIN)
    assert "user=bob" in answer.headers["Link"]


async def test_who_asks_for_somebody_elses_jobs_gets_an_empty_list(gateway: JobsGateway) -> None:
    mine = await submit(gateway, ALICE)
    await submit(gateway, BOB)
    assert await listed(gateway, ALICE, "?user=bob") == []
    assert await listed(gateway, ALICE, "?user=anonymous") == []
    assert await listed(gateway, ALICE, "?user=alice") == [mine]
    assert await listed(gateway, ALICE, "?user=bob&user=alice") == [mine]


@pytest.mark.parametrize("user", ["", "x" * 257])
async def test_a_user_that_cannot_be_one_is_a_bad_parameter(
    gateway: JobsGateway, user: str
) -> None:
    answer = await gateway.call("GET", f"{JOBS}?user={user}", headers=ADMIN)
    assert (answer.status, answer.json["reason"]) == (422, "invalid_fields")
    assert [error["field"] for error in answer.json["errors"]] == ["user"]


async def test_one_idempotency_key_of_two_users_is_two_jobs(gateway: JobsGateway) -> None:
    key = {"Idempotency-Key": "k"}
    first = [await submit(gateway, who, **key) for who in (ALICE, BOB, NOBODY)]
    assert len(set(first)) == 3
    assert [await submit(gateway, who, **key) for who in (ALICE, BOB, NOBODY)] == first
    assert [document["user_id"] for _, document in await messages(gateway)] == [
        "alice",
        "bob",
        "anonymous",
    ]


async def test_where_credentials_are_optional_those_without_share_their_jobs(
    gateway: JobsGateway,
) -> None:
    shared, alices = await submit(gateway, NOBODY), await submit(gateway, ALICE)
    assert await listed(gateway, NOBODY) == [shared]
    assert (await gateway.call("GET", f"{JOBS}/{shared}", headers=NOBODY)).status == 200
    assert (await gateway.call("GET", f"{JOBS}/{alices}", headers=NOBODY)).status == 404
    assert (await gateway.call("GET", f"{JOBS}/{shared}", headers=ALICE)).status == 404
    assert (await gateway.call("DELETE", f"{JOBS}/{shared}", headers=NOBODY)).status == 202


async def test_a_user_who_is_called_anonymous_is_refused(gateway: JobsGateway) -> None:
    job_id = await submit(gateway, NOBODY)
    before = await messages(gateway)
    for role in ("user", "admin"):
        impostor = saying("anonymous", role)
        body = {"type": "train", "name": "n"}
        answers = [
            await gateway.call("POST", JOBS, body, impostor),
            await gateway.call("GET", JOBS, headers=impostor),
            *[
                await gateway.call(method, f"{JOBS}/{job_id}{path}", headers=impostor)
                for method, path in ASKING
            ],
        ]
        assert {(answer.status, answer.json["reason"]) for answer in answers} == {
            (403, "forbidden")
        }
    assert await messages(gateway) == before


async def test_jobs_from_before_authentication_are_shown_to_admins_only(
    gateway: JobsGateway,
) -> None:
    gateway.caller = nobody_is_asked
    job_id = await submit(gateway, NOBODY)
    assert (await gateway.job(job_id))["user_id"] == "anonymous"
    gateway.caller = who_says_so
    assert await listed(gateway, ALICE) == []
    assert (await gateway.call("GET", f"{JOBS}/{job_id}", headers=ALICE)).status == 404
    assert await listed(gateway, ADMIN) == [job_id]
    assert (await gateway.call("DELETE", f"{JOBS}/{job_id}", headers=ADMIN)).status == 202


async def test_without_authentication_everybody_sees_everything(gateway: JobsGateway) -> None:
    jobs = [await submit(gateway, who) for who in (ALICE, BOB)]
    gateway.caller = nobody_is_asked
    assert await listed(gateway, NOBODY) == jobs[::-1]
    assert await listed(gateway, NOBODY, "?user=alice") == jobs[:1]
    assert (await gateway.call("DELETE", f"{JOBS}/{jobs[0]}", headers=NOBODY)).status == 202


async def test_a_job_that_another_publisher_left_without_a_user_is_nobodys(
    gateway: JobsGateway,
) -> None:
    job_id = str(uuid.uuid4())
    js = gateway.queue.connection.client().jetstream()
    await js.publish(gateway.queue.subjects.submit("train", "normal", job_id), b'{"user_id":7}')
    answer = await gateway.call("GET", f"{JOBS}/{job_id}", headers=ADMIN)
    assert answer.status == 200
    assert "user_id" not in answer.json
    for who in (saying("7"), ALICE, NOBODY):
        assert (await gateway.call("GET", f"{JOBS}/{job_id}", headers=who)).status == 404
    gateway.caller = nobody_is_asked
    assert (await gateway.call("GET", f"{JOBS}/{job_id}")).status == 200


@pytest.mark.parametrize("path", ["/events", "?wait=60s"])
async def test_a_client_that_goes_away_while_its_job_is_looked_up_leaves_nothing(
    gateway: JobsGateway, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not yet known then whether it may watch, so there is no watch that could be closed."""
    job_id = await submit(gateway, ALICE)
    asked, go_on, found = asyncio.Event(), asyncio.Event(), asyncio.Event()
    get = Ledger.get

    async def slow(self: Ledger, job_id: str, actor: Actor) -> JobState:
        asked.set()
        await go_on.wait()
        job = await get(self, job_id, actor)
        found.set()
        return job

    monkeypatch.setattr(Ledger, "get", slow)
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(
        f"GET {JOBS}/{job_id}{path} HTTP/1.1\r\nHost: t\r\nX-Caller: alice\r\n\r\n".encode()
    )
    await asked.wait()
    connections = gateway._listener.connections
    writer.close()
    await eventually(lambda: not connections, "the gateway notices")
    go_on.set()
    await found.wait()
    await eventually(lambda: not gateway.ledger._watches, "nobody watches")
