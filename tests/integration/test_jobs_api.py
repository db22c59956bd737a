"""The jobs endpoints against a real NATS server, with real workers."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import jsonschema
import orjson
import pytest

from siger_gateway.api.openapi import document
from siger_gateway.errors import GatewayError
from siger_gateway.jobs.queue import JobQueue, Publish
from siger_gateway.jobs.worker import Job, JobContext, Worker
from tests.jobs_gateway import JOBS, Answer, JobsGateway, eventually, working
from tests.nats_server import NatsServer


@pytest.fixture
def nats() -> Any:
    with NatsServer() as server:
        yield server


@pytest.fixture
async def gateway(nats: NatsServer) -> AsyncIterator[JobsGateway]:
    async with JobsGateway(nats.address) as gateway:
        yield await gateway.live()


def problem(answer: Answer, status: int, reason: str) -> dict[str, Any]:
    assert answer.status == status, answer
    assert answer.headers["Content-Type"] == "application/problem+json"
    document = dict(answer.json)
    assert document["status"] == status
    assert document["reason"] == reason
    return document


async def stored(gateway: JobsGateway) -> int:
    """Messages in the stream."""
    js = gateway.queue.connection.client().jetstream()
    return int((await js.stream_info("jobs")).state.messages)


async def test_a_job_is_submitted_run_and_completed(nats: NatsServer, gateway: JobsGateway) -> None:
    async def train(job: Job, context: JobContext) -> object:
        await context.progress(50, "half way")
        return {"epochs": job.params["epochs"], "name": job.name, "attempt": job.attempt}

    body = {"type": "train", "name": "bert", "params": {"epochs": 3}, "tags": ["nlp"]}
    answer = await gateway.call("POST", JOBS, body)
    assert answer.status == 202
    accepted = answer.json
    job_id = accepted["job_id"]
    assert uuid.UUID(job_id).version == 7
    assert answer.headers["Location"] == f"{JOBS}/{job_id}"
    assert accepted == {
        "job_id": job_id,
        "status": "queued",
        "timestamp": accepted["timestamp"],
        "message": "Job submitted successfully",
    }
    assert accepted["timestamp"].endswith("Z")
    assert (await gateway.job(job_id))["status"] == "queued"

    async with working(Worker(nats.address, "train", handler=train)):
        job = await gateway.until(job_id, "completed")
    assert job["result"] == {"epochs": 3, "name": "bert", "attempt": 1}
    assert job["progress"] == 100
    assert (job["type"], job["name"], job["tags"]) == ("train", "bert", ["nlp"])
    assert job["submitted_at"] <= job["started_at"] <= job["ended_at"]
    assert gateway.metrics.jobs_submitted == {"train": 1}
    assert gateway.metrics.job_events == {"queued": 1, "processing": 2, "completed": 1}


async def test_the_job_message_is_the_body_with_the_gateways_fields(gateway: JobsGateway) -> None:
    job_id = await gateway.submit(priority=60, tags=["a"])
    js = gateway.queue.connection.client().jetstream()
    message = await js.get_msg("jobs", seq=1)
    assert message.subject == f"jobs.submit.train.high.{job_id}"
    document = orjson.loads(message.data)
    assert document.pop("timestamp") == document.pop("submitted_at")
    assert document == {
        "type": "train",
        "name": "a job",
        "priority": 60,
        "tags": ["a"],
        "job_id": job_id,
        "user_id": "anonymous",
    }


async def test_a_failing_job_says_why(nats: NatsServer, gateway: JobsGateway) -> None:
    async def fail(job: Job, context: JobContext) -> object:
        raise ValueError("no such model")

    async with working(Worker(nats.address, "train", handler=fail)):
        job = await gateway.until(await gateway.submit(), "failed")
    assert job["error"] == "ValueError: no such model"


async def test_a_queued_job_that_is_cancelled_is_never_run(
    nats: NatsServer, gateway: JobsGateway
) -> None:
    ran = []

    async def run(job: Job, context: JobContext) -> object:
        ran.append(job.id)
        return None

    job_id = await gateway.submit()
    answer = await gateway.call("DELETE", f"{JOBS}/{job_id}")
    assert answer.status == 202
    assert answer.json == {
        "job_id": job_id,
        "status": "cancelling",
        "timestamp": answer.json["timestamp"],
        "message": "Job cancellation requested",
    }
    assert (await gateway.job(job_id))["status"] == "cancelling"
    async with working(Worker(nats.address, "train", handler=run)):
        job = await gateway.until(job_id, "cancelled")
    assert ran == []
    assert not {"result", "started_at"} & set(job)


async def test_a_running_job_is_interrupted_when_it_is_cancelled(
    nats: NatsServer, gateway: JobsGateway
) -> None:
    interrupted = asyncio.Event()

    async def run(job: Job, context: JobContext) -> object:
        try:
            await asyncio.Event().wait()
        finally:
            assert context.cancelled
            interrupted.set()

    worker = Worker(nats.address, "train", handler=run, cancel_grace=0.05)
    async with working(worker):
        job_id = await gateway.submit()
        await gateway.until(job_id, "processing")
        for _ in range(2):  # repeatable
            assert (await gateway.call("DELETE", f"{JOBS}/{job_id}")).status == 202
        await gateway.until(job_id, "cancelled")
    assert interrupted.is_set()
    document = problem(await gateway.call("DELETE", f"{JOBS}/{job_id}"), 409, "conflict")
    assert "cancelled" in document["detail"]


async def test_a_handler_may_end_a_cancelled_job_itself(
    nats: NatsServer, gateway: JobsGateway
) -> None:
    async def run(job: Job, context: JobContext) -> object:
        await context.wait_cancelled()
        return "tidied up"

    async with working(Worker(nats.address, "train", handler=run)):
        job_id = await gateway.submit()
        await gateway.until(job_id, "processing")
        await gateway.call("DELETE", f"{JOBS}/{job_id}")
        assert "result" not in await gateway.until(job_id, "cancelled")


async def test_a_job_that_has_ended_cannot_be_cancelled(gateway: JobsGateway) -> None:
    for status in ("completed", "failed"):
        job_id = await gateway.submit()
        await gateway.report(job_id, status=status)
        await gateway.until(job_id, status)
        problem(await gateway.call("DELETE", f"{JOBS}/{job_id}"), 409, "conflict")
        assert (await gateway.job(job_id))["status"] == status


@pytest.mark.parametrize("path", ["", "/events", "?wait=1s"])
async def test_an_unknown_job_is_not_found(gateway: JobsGateway, path: str) -> None:
    for job_id in (str(uuid.uuid4()), "x", "*"):
        problem(await gateway.call("GET", f"{JOBS}/{job_id}{path}"), 404, "not_found")
    problem(await gateway.call("DELETE", f"{JOBS}/{uuid.uuid4()}"), 404, "not_found")


async def test_a_key_used_again_gets_the_first_answer(
    nats: NatsServer, gateway: JobsGateway
) -> None:
    body = {"type": "train", "name": "n", "params": {"a": 1, "b": 2}}
    again = {"params": {"b": 2, "a": 1}, "name": "n", "type": "train", "priority": 0}
    headers = {"Idempotency-Key": "key-1"}
    first = await gateway.call("POST", JOBS, body, headers)
    async with JobsGateway(nats.address) as replica:
        await replica.live()
        for other in (gateway, replica):
            repeated = await other.call("POST", JOBS, again, headers)
            assert (repeated.status, repeated.json) == (202, first.json)
            changed = await other.call("POST", JOBS, {**body, "name": "m"}, headers)
            problem(changed, 422, "idempotency_mismatch")
            moved = await other.call("POST", JOBS, {**body, "type": "infer"}, headers)
            problem(moved, 422, "idempotency_mismatch")
    assert await stored(gateway) == 1


async def test_one_key_at_many_places_at_once_is_one_job(
    nats: NatsServer, gateway: JobsGateway
) -> None:
    async with JobsGateway(nats.address) as replica:
        await replica.live()
        ids = await asyncio.gather(
            *(one.submit(key="k") for _ in range(10) for one in (gateway, replica))
        )
    assert len(set(ids)) == 1
    assert await stored(gateway) == 1


async def test_the_stream_itself_refuses_a_second_job_of_an_id(
    gateway: JobsGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ``Nats-Msg-Id`` is forgotten after minutes; the guard on the subject is not."""
    publish = JobQueue._publish

    def without_message_id(
        self: JobQueue, subject: str, payload: bytes, headers: dict[str, str], job_id: str
    ) -> Publish:
        del headers["Nats-Msg-Id"]
        return publish(self, subject, payload, headers, job_id)

    monkeypatch.setattr(JobQueue, "_publish", without_message_id)
    first = await gateway.submit(key="k")
    assert await gateway.submit(key="k") == first
    answer = await gateway.call(
        "POST", JOBS, {"type": "infer", "name": "other"}, {"Idempotency-Key": "k"}
    )
    problem(answer, 422, "idempotency_mismatch")
    assert await stored(gateway) == 1


@pytest.mark.parametrize("job_type", ["a.b", "*", ">", "a b", "cancel.x", ""])
async def test_a_type_that_could_reach_other_subjects_is_never_published(
    gateway: JobsGateway, job_type: str
) -> None:
    answer = await gateway.call("POST", JOBS, {"type": job_type, "name": "n"})
    errors = problem(answer, 422, "invalid_fields")["errors"]
    assert [error["field"] for error in errors] == ["type"]
    assert await stored(gateway) == 0


async def test_a_type_named_like_a_control_subject_is_an_ordinary_job(
    gateway: JobsGateway,
) -> None:
    job_id = await gateway.submit(type="cancel")
    assert (await gateway.job(job_id))["status"] == "queued"


async def test_bodies_that_are_no_json_jobs(gateway: JobsGateway) -> None:
    json_type = {"Content-Type": "application/json; charset=utf-8"}
    problem(await gateway.call("POST", JOBS, b"{", json_type), 400, "malformed_json")
    problem(await gateway.call("POST", JOBS, b"", json_type), 400, "malformed_json")
    for other in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = await gateway.call("POST", JOBS, b"{}", {"Content-Type": other})
        problem(answer, 415, "unsupported_media_type")
    large = b'{"type":"t","name":"n","description":"' + b"x" * 2_000_000 + b'"}'
    problem(await gateway.call("POST", JOBS, large, json_type), 413, "body_too_large")


async def test_methods_that_are_not_there_are_named(gateway: JobsGateway) -> None:
    for path, allowed in [
        (JOBS, {"GET", "POST"}),
        (f"{JOBS}/{uuid.uuid4()}", {"GET", "DELETE"}),
        (f"{JOBS}/{uuid.uuid4()}/events", {"GET"}),
        ("/openapi.json", {"GET"}),
    ]:
        answer = await gateway.call("PUT", path, b"")
        problem(answer, 405, "method_not_allowed")
        assert set(answer.headers["Allow"].split(", ")) == allowed
    problem(await gateway.call("GET", "/nothing"), 404, "not_found")


async def test_the_request_id_stands_in_the_problem(gateway: JobsGateway) -> None:
    answer = await gateway.call("GET", f"{JOBS}/x", headers={"X-Request-ID": "abc"})
    document = problem(answer, 404, "not_found")
    assert (document["request_id"], document["instance"]) == ("abc", f"{JOBS}/x")


async def test_words_of_the_daemons_move_a_job(gateway: JobsGateway) -> None:
    job_id = await gateway.submit()
    await gateway.report(job_id, status="preparing", provider_id="gpu-7", progress=0)
    assert (await gateway.until(job_id, "processing"))["worker"] == "gpu-7"
    await gateway.report(job_id, status="in_progress", provider_id="gpu-7", progress=0.5)
    await eventually(lambda: gateway.metrics.job_events["processing"] == 2, "progress")
    assert (await gateway.job(job_id))["progress"] == 50
    await gateway.report(
        job_id, status="failed", provider_id="gpu-7", exit_code=2, execution_log="killed"
    )
    job = await gateway.until(job_id, "failed")
    assert job["result"] == {"exit_code": 2, "execution_log": "killed"}
    assert job["error"] == "exit code 2"


async def test_illegal_events_are_ignored_and_counted(gateway: JobsGateway) -> None:
    job_id = await gateway.submit()
    await gateway.report(job_id, status="completed", result=1)
    await gateway.until(job_id, "completed")
    for status in ("processing", "failed", "queued", "cancelled", "nonsense"):
        await gateway.report(job_id, status=status)
    await eventually(lambda: gateway.metrics.job_events["illegal"] == 5, "five illegal events")
    job = await gateway.job(job_id)
    assert (job["status"], job["result"]) == ("completed", 1)


async def test_jobs_are_listed_newest_first_page_by_page(gateway: JobsGateway) -> None:
    ids = [await gateway.submit(tags=[f"t{number % 2}"]) for number in range(5)]
    await gateway.submit(type="infer", tags=["t0", "t1"])
    target = f"{JOBS}?type=train&limit=2"
    pages = []
    while True:
        answer = await gateway.call("GET", target)
        pages.append([job["job_id"] for job in answer.json["jobs"]])
        link = answer.headers.get("Link")
        if link is None:
            break
        address, relation = link.split("; ")
        assert relation == 'rel="next"'
        target = address.strip("<>")
    newest = ids[::-1]
    assert pages == [newest[:2], newest[2:4], newest[4:]]

    both = await gateway.call("GET", f"{JOBS}?tag=t0&tag=t1")
    assert [job["type"] for job in both.json["jobs"]] == ["infer"]
    assert both.json["next_cursor"] is None
    await gateway.call("DELETE", f"{JOBS}/{ids[1]}")
    listed = await gateway.call("GET", f"{JOBS}?status=cancelling&status=completed")
    assert [job["job_id"] for job in listed.json["jobs"]] == [ids[1]]


@pytest.mark.parametrize(
    "parameter",
    ["limit=0", "limit=x", "limit=1001", "cursor=-1", "status=done", "type=a.b", "limit=1&limit=2"],
)
async def test_a_bad_parameter_is_named(gateway: JobsGateway, parameter: str) -> None:
    document = problem(await gateway.call("GET", f"{JOBS}?{parameter}"), 422, "invalid_fields")
    assert [error["field"] for error in document["errors"]] == [parameter.split("=")[0]]


async def test_an_entity_tag_saves_the_body(gateway: JobsGateway) -> None:
    job_id = await gateway.submit()
    tag = (await gateway.call("GET", f"{JOBS}/{job_id}")).headers["ETag"]
    unchanged = await gateway.call("GET", f"{JOBS}/{job_id}", headers={"If-None-Match": tag})
    assert (unchanged.status, unchanged.body, unchanged.headers["ETag"]) == (304, b"", tag)
    await gateway.report(job_id, status="processing")
    await gateway.until(job_id, "processing")
    changed = await gateway.call("GET", f"{JOBS}/{job_id}", headers={"If-None-Match": tag})
    assert changed.status == 200
    assert changed.headers["ETag"] != tag


@pytest.mark.parametrize(("query", "headers"), [("?wait=10s", {}), ("", {"Prefer": "wait=10"})])
async def test_a_long_poll_answers_when_the_job_changes(
    gateway: JobsGateway, query: str, headers: dict[str, str]
) -> None:
    job_id = await gateway.submit()
    waiting = asyncio.create_task(gateway.call("GET", f"{JOBS}/{job_id}{query}", headers=headers))
    await eventually(lambda: gateway.ledger._watches, "somebody waits")
    await gateway.report(job_id, status="processing")
    answer = await waiting
    assert answer.json["status"] == "processing"
    assert ("Preference-Applied" in answer.headers) == bool(headers)
    await eventually(lambda: not gateway.ledger._watches, "nobody waits any more")


async def test_a_long_poll_that_knows_less_or_the_end_is_answered_at_once(
    gateway: JobsGateway,
) -> None:
    job_id = await gateway.submit()
    stale = await gateway.call("GET", f"{JOBS}/{job_id}?wait=60s", headers={"If-None-Match": '"0"'})
    assert stale.status == 200
    await gateway.report(job_id, status="completed")
    await gateway.until(job_id, "completed")
    assert (await gateway.call("GET", f"{JOBS}/{job_id}?wait=60s")).status == 200


async def test_a_long_poll_without_news_ends_with_what_is_known(gateway: JobsGateway) -> None:
    job_id = await gateway.submit()
    assert (await gateway.call("GET", f"{JOBS}/{job_id}?wait=20ms")).json["status"] == "queued"


async def test_a_drain_answers_those_who_wait(gateway: JobsGateway) -> None:
    job_id = await gateway.submit()
    waiting = asyncio.create_task(gateway.call("GET", f"{JOBS}/{job_id}?wait=60s"))
    await eventually(lambda: gateway.ledger._watches, "somebody waits")
    gateway.ledger.release()
    assert (await waiting).json["status"] == "queued"


async def test_a_long_result_is_read_back_from_the_stream(gateway: JobsGateway) -> None:
    job_id = await gateway.submit()
    result = {"weights": "x" * 10_000}
    await gateway.report(job_id, status="completed", result=result)
    assert (await gateway.until(job_id, "completed"))["result"] == result


async def test_too_many_at_once_are_told_to_come_back(
    gateway: JobsGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("siger_gateway.jobs.queue.MAX_IN_FLIGHT", 0)
    answer = await gateway.call("POST", JOBS, {"type": "t", "name": "n"})
    problem(answer, 503, "queue_overflow")
    assert answer.headers["Retry-After"] == "1"


async def test_without_a_nats_address_there_are_no_jobs() -> None:
    async with JobsGateway("") as gateway:
        for method, path in [("POST", JOBS), ("GET", JOBS), ("GET", f"{JOBS}/x")]:
            body = {} if method == "POST" else None
            problem(await gateway.call(method, path, body), 503, "jobs_disabled")


async def test_answers_are_as_the_openapi_document_says(gateway: JobsGateway) -> None:
    description = (await gateway.call("GET", "/openapi.json")).json
    assert description["openapi"] == "3.1.0"
    job_id = await gateway.submit(tags=["a"])
    await gateway.report(job_id, status="completed", result={"a": 1}, progress=100)
    await gateway.until(job_id, "completed")
    key = {"Idempotency-Key": "k"}
    json_type = {"Content-Type": "application/json"}
    calls: list[tuple[str, str, str, Any, dict[str, str]]] = [
        ("post", JOBS, "", {"type": "t", "name": "n"}, key),
        ("post", JOBS, "", {"type": "t", "name": "m"}, key),
        ("post", JOBS, "", b"{", json_type),
        ("post", JOBS, "", b"x=1", {"Content-Type": "text/plain"}),
        ("get", JOBS, "", None, {}),
        ("get", JOBS, "?limit=x", None, {}),
        ("get", JOBS + "/{job_id}", job_id, None, {}),
        ("get", JOBS + "/{job_id}", str(uuid.uuid4()), None, {}),
        ("delete", JOBS + "/{job_id}", job_id, None, {}),
        ("get", "/openapi.json", "", None, {}),
    ]
    for method, path, argument, body, headers in calls:
        described = description["paths"][path][method]["responses"]
        target = path.replace("{job_id}", argument) if "{" in path else path + argument
        answer = await gateway.call(method.upper(), target, body, headers)
        response = described[str(answer.status)]
        content = response["content"][answer.headers["Content-Type"].split(";")[0]]
        jsonschema.validate(answer.json, {**description, **content["schema"]})


def test_every_operation_on_jobs_says_what_depends_on_who_asks() -> None:
    described = document()
    schemes = described["components"]["securitySchemes"]
    operations = [
        operation
        for path, item in described["paths"].items()
        for method, operation in item.items()
        if path.startswith(JOBS) and method != "parameters"
    ]
    assert len(operations) == 5
    for operation in operations:
        responses = operation["responses"]
        assert operation["security"][0] == {}  # an operator may ask nobody
        assert {name for one in operation["security"] for name in one} == set(schemes)
        assert "WWW-Authenticate" in responses["401"]["headers"]
        assert "Retry-After" in responses["429"]["headers"]
        assert {"401", "403", "429", "503"} <= set(responses)
        for status in ("401", "403", "429"):
            assert list(responses[status]["content"]) == ["application/problem+json"]
    assert "security" not in described["paths"]["/health"]["get"]


def test_every_reason_that_jobs_use_is_in_the_table() -> None:
    for reason in ("queue_overflow", "malformed_json", "jobs_disabled", "queue_ambiguous"):
        assert GatewayError(reason).status >= 400
