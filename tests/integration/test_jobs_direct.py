"""The direct way and the handlers answer alike: each request goes by both, and only the ids, the
times and the sequence may differ."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from siger_gateway.api.direct import DirectJobs
from siger_gateway.http.tornado import TornadoConsumer
from siger_gateway.jobs.queue import JobQueue
from tests.jobs_gateway import JOBS, Answer, JobsGateway, saying, who_says_so
from tests.nats_server import NatsServer

JOB = {"type": "train", "name": "a job", "tags": ["x"], "params": {"a": {"b": 1}}, "priority": 60}


def comparable(answer: Answer) -> tuple[int, dict[str, str], Any]:
    """An answer without what is another one each time."""
    fields = {name.lower(): value for name, value in answer.headers.get_all()}
    document = orjson.loads(answer.body) if answer.body else None
    for name in ("x-request-id", "date"):
        assert fields.pop(name)
    for name in ("etag", "location"):
        fields[name] = re.sub(r"[0-9a-f-]{36}|\d+", "*", fields.get(name, ""))
    for name in ("job_id", "timestamp", "submitted_at", "request_id"):
        if isinstance(document, dict) and name in document:
            document[name] = "*"
    if isinstance(document, dict) and "instance" in document:
        document["instance"] = re.sub(r"[0-9a-f-]{36}", "*", document["instance"])
    fields.pop("content-length", None)  # of other sequences
    return answer.status, fields, document


@pytest.fixture
def nats() -> Any:
    with NatsServer() as server:
        yield server


@pytest.fixture
async def gateway(nats: NatsServer) -> AsyncIterator[JobsGateway]:
    async with JobsGateway(nats.address) as gateway:
        yield await gateway.live()


@pytest.fixture
def directly(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The methods of the requests that went by the direct way."""
    taken: list[bytes] = []
    answer, take = DirectJobs.answer, DirectJobs.take

    def counted_answer(self: DirectJobs, consumer: TornadoConsumer) -> bool:
        done = answer(self, consumer)
        if done:
            taken.append(consumer.request.method)
        return done

    def counted_take(self: DirectJobs, consumer: TornadoConsumer, body: bytes) -> None:
        taken.append(consumer.request.method)
        take(self, consumer, body)

    monkeypatch.setattr(DirectJobs, "answer", counted_answer)
    monkeypatch.setattr(DirectJobs, "take", counted_take)
    return taken


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (JOB, 202),
        ({"type": "train", "name": "n"}, 202),
        ({"type": "a.b", "name": "", "more": 1}, 422),
        (b"{", 400),
        (b"[]", 422),
        (b'{"type":"train","name":"n","gpu_count":4.0}', 202),
        (b'{"type":"train","name":"' + b"n" * 1_000_000 + b'"}', 413),
    ],
)
async def test_submissions(
    gateway: JobsGateway, directly: list[bytes], body: Any, status: int
) -> None:
    direct = await gateway.call("POST", JOBS, body, {"Content-Type": "application/json"})
    assert directly == [b"POST"]
    other = await gateway.call("POST", JOBS, body, {"Content-Type": "application/json; charset=x"})
    assert directly == [b"POST"]
    assert comparable(direct) == comparable(other)
    assert direct.status == status


async def test_keys(gateway: JobsGateway, directly: list[bytes]) -> None:
    first = await gateway.call("POST", JOBS, JOB, {"Idempotency-Key": "k"})
    again = await gateway.call("POST", JOBS, JOB, {"Idempotency-Key": "k"})
    by_handler = await gateway.call("POST", f"{JOBS}?by=handler", JOB, {"Idempotency-Key": "k"})
    assert first.body == again.body == by_handler.body
    other = {**JOB, "name": "another"}
    direct = await gateway.call("POST", JOBS, other, {"Idempotency-Key": "k"})
    handler = await gateway.call("POST", f"{JOBS}?by=handler", other, {"Idempotency-Key": "k"})
    assert direct.json["reason"] == "idempotency_mismatch"
    assert comparable(direct) == comparable(handler)
    bad = await gateway.call("POST", JOBS, JOB, {"Idempotency-Key": "k" * 256})
    assert bad.json["errors"][0]["field"] == "Idempotency-Key"
    assert directly == [b"POST"] * 4


async def test_looks_at_a_job(gateway: JobsGateway, directly: list[bytes]) -> None:
    job_id = await gateway.submit(**JOB)
    await gateway.report(job_id, status="processing", progress=10, worker="w")
    await gateway.report(job_id, status="completed", result={"loss": 0.5}, message="done")
    await gateway.until(job_id, "completed")
    directly.clear()
    path = f"{JOBS}/{job_id}"
    direct = await gateway.call("GET", path)
    assert directly == [b"GET"]
    assert direct.json["result"] == {"loss": 0.5}
    tag = direct.headers["ETag"]
    for fields in ({}, {"If-None-Match": tag}, {"If-None-Match": '"1"'}):
        one = await gateway.call("GET", path, headers=fields)
        other = await gateway.call("GET", f"{path}?by=handler", headers=fields)
        assert comparable(one) == comparable(other)
        assert one.body == other.body
    assert directly == [b"GET"] * 4
    for fields in ({"If-None-Match": f'W/{tag}, "7"'}, {"If-None-Match": "*"}):
        assert (await gateway.call("GET", path, headers=fields)).status == 304
    waited = await gateway.call("GET", path, headers={"Prefer": "wait=1"})
    assert waited.headers["Preference-Applied"] == "wait=1"
    assert (await gateway.call("GET", f"{JOBS}/{job_id.upper()}")).body == direct.body
    assert directly == [b"GET"] * 4


async def test_a_foreign_job_and_a_long_result_are_left_to_the_handler(
    gateway: JobsGateway, directly: list[bytes]
) -> None:
    gateway.caller = who_says_so
    answer = await gateway.call("POST", JOBS, JOB, saying("alice"))
    job_id = answer.json["job_id"]
    path = f"{JOBS}/{job_id}"
    assert (await gateway.call("GET", path, headers=saying("alice"))).json["user_id"] == "alice"
    assert (await gateway.call("GET", path, headers=saying("root", "admin"))).status == 200
    directly.clear()
    assert (await gateway.call("GET", path, headers=saying("bob"))).status == 404
    assert (await gateway.call("GET", path, headers=saying("anonymous"))).status == 403
    assert (await gateway.call("POST", JOBS, JOB, saying("anonymous"))).status == 403
    assert directly == [b"POST"]
    gateway.caller = lambda request: None
    await gateway.report(job_id, status="completed", result="x" * 5000)
    await gateway.until(job_id, "completed")
    directly.clear()
    assert (await gateway.job(job_id))["result"] == "x" * 5000
    assert directly == []


async def test_a_cancel_request_is_seen_by_the_next_look(
    gateway: JobsGateway, directly: list[bytes]
) -> None:
    for _ in range(20):
        job_id = await gateway.submit()
        assert (await gateway.call("DELETE", f"{JOBS}/{job_id}")).status == 202
        assert (await gateway.job(job_id))["status"] == "cancelling"


async def test_what_nobody_foresaw_is_an_answer_without_its_text(
    gateway: JobsGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(JobQueue, "confirmed", broken)
    direct = await gateway.call("POST", JOBS, JOB)
    handler = await gateway.call("POST", f"{JOBS}?by=handler", JOB)
    assert direct.status == 500
    assert b"secret" not in direct.body
    assert comparable(direct) == comparable(handler)
