"""The jobs API for gRPC clients: grpcio, a real gateway and a real NATS server.

What holds for jobs whoever speaks of them is in ``test_jobs_*``; here it is that gRPC says the
same.
"""

from __future__ import annotations

import json
import signal
import uuid
from collections.abc import AsyncIterator, Iterator

import grpc
import nats as nats_client
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from grpc import aio

from siger_gateway.grpc.protos.siger.jobs.v1 import jobs_pb2
from siger_gateway.jobs.worker import Job, JobContext, Worker
from tests.conftest import Serve
from tests.grpc_jobs import JobsStub, events, refused
from tests.integration.test_jobs_ownership import ADMIN, ALICE, BOB, configured, connected
from tests.jobs_gateway import JOBS, working
from tests.nats_server import NatsServer
from tests.running import RunningGateway, eventually

NAMES = {number: name for name, number in jobs_pb2.Status.items()}


@pytest.fixture(scope="module")
def nats() -> Iterator[NatsServer]:
    with NatsServer() as server:
        yield server


@pytest.fixture
async def gateway(serve: Serve, nats: NatsServer) -> RunningGateway:
    """With a stream of its own."""
    stream = uuid.uuid4().hex
    open_to_all = f'consul_address: ""\nnats_address: {nats.address}\njobs: {{stream: {stream}}}\n'
    return await connected(await serve(open_to_all))


@pytest.fixture
async def channel(gateway: RunningGateway) -> AsyncIterator[aio.Channel]:
    async with aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        yield channel


@pytest.fixture
def jobs(channel: aio.Channel) -> JobsStub:
    return JobsStub(channel)


@pytest.fixture
async def owned(serve: Serve, nats: NatsServer) -> AsyncIterator[dict[str, JobsStub]]:
    """Clients by their names, of a gateway that wants to know them."""
    gateway = await connected(await serve(configured(nats, "auth: required, stream: owned")))
    async with aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        fields = {"alice": ALICE, "bob": BOB, "root": ADMIN}
        stubs = {
            name: JobsStub(channel, ("authorization", field.removeprefix("Authorization: ")))
            for name, field in fields.items()
        }
        yield {**stubs, "nobody": JobsStub(channel)}


def stream_of(gateway: RunningGateway) -> str:
    return gateway.config_path.read_text().partition("stream: ")[2].partition("}")[0]


async def report(nats: NatsServer, gateway: RunningGateway, job_id: str, **event: object) -> None:
    """A status message as a daemon sends it."""
    client = await nats_client.connect(nats.address)
    await client.publish(f"{stream_of(gateway)}.status.{job_id}", json.dumps(event).encode())
    await client.close()


async def test_a_job_is_submitted_run_and_completed(
    nats: NatsServer, gateway: RunningGateway, jobs: JobsStub
) -> None:
    async def train(job: Job, context: JobContext) -> object:
        await context.progress(50, "half way")
        return {"epochs": job.params["epochs"], "layers": [1, 2]}

    params = Struct()
    params.update({"epochs": 3})
    stored = await jobs.call(
        "Submit", type="train", name="bert", params=params, tags=["nlp"], priority=60
    )
    assert stored.status == jobs_pb2.STATUS_QUEUED
    assert stored.message == "Job submitted successfully"
    watch = jobs.watch(stored.job_id)
    async with working(Worker(nats.address, "train", handler=train, stream=stream_of(gateway))):
        seen = await events(watch)
    assert [NAMES[event.status] for event in seen] == [
        "STATUS_QUEUED",
        "STATUS_PROCESSING",
        "STATUS_PROCESSING",
        "STATUS_COMPLETED",
    ]
    assert (seen[2].progress, seen[2].message) == (50, "half way")
    job = await jobs.call("Get", job_id=stored.job_id)
    assert MessageToDict(job.result) == {"epochs": 3.0, "layers": [1.0, 2.0]}
    assert (job.lane, job.tags, job.version) == (jobs_pb2.LANE_HIGH, ["nlp"], seen[-1].id)
    rest = (await gateway.get(f"{JOBS}/{stored.job_id}")).json
    assert rest["result"] == {"epochs": 3, "layers": [1, 2]}
    assert rest["submitted_at"] == job.submitted_at.ToJsonString()


async def test_a_key_used_again_gets_the_first_answer(
    gateway: RunningGateway, jobs: JobsStub
) -> None:
    first = await jobs.submit(idempotency_key="k-1")
    assert await jobs.submit(idempotency_key="k-1") == first
    answer = await gateway.request(
        f"POST {JOBS}",
        "Content-Type: application/json",
        "Idempotency-Key: k-1",
        body=b'{"type":"train","name":"a job"}',
    )
    assert answer.json["job_id"] == first
    error = await refused(jobs.submit(idempotency_key="k-1", name="another"))
    assert (error.code, error.reason) == (
        grpc.StatusCode.ALREADY_EXISTS,
        "idempotency_mismatch",
    )


async def test_bad_fields_are_named(jobs: JobsStub) -> None:
    error = await refused(jobs.submit(type="a.b", tags=["x" * 65]))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "invalid_fields")
    assert error.fields == ["type", "tags"]
    assert error.metadata["request_id"]
    for method, fields, name in [
        ("List", {"limit": 1001}, "limit"),
        ("List", {"status": [99]}, "status"),
        ("Get", {"job_id": await jobs.submit(), "wait": Duration(seconds=61)}, "wait"),
    ]:
        error = await refused(jobs.call(method, **fields))
        assert (error.code, error.fields) == (grpc.StatusCode.INVALID_ARGUMENT, [name])


async def test_an_unknown_job_is_not_found(jobs: JobsStub) -> None:
    for job_id in ("0198b2a0-0000-7000-8000-000000000000", "x", ""):
        calls = [
            jobs.call("Get", job_id=job_id),
            jobs.call("Cancel", job_id=job_id),
            events(jobs.watch(job_id)),
        ]
        errors = [await refused(call) for call in calls]
        assert [error.code for error in errors] == [grpc.StatusCode.NOT_FOUND] * 3
        assert {error.reason for error in errors} == {"not_found"}


async def test_a_cancelled_job_says_so_until_it_has_ended(
    nats: NatsServer, gateway: RunningGateway, jobs: JobsStub
) -> None:
    job_id = await jobs.submit()
    for _ in range(2):  # repeatable
        answer = await jobs.call("Cancel", job_id=job_id)
        assert (answer.status, answer.message) == (
            jobs_pb2.STATUS_CANCELLING,
            "Job cancellation requested",
        )
    await report(nats, gateway, job_id, status="cancelled")
    assert (await events(jobs.watch(job_id)))[-1].status == jobs_pb2.STATUS_CANCELLED
    error = await refused(jobs.call("Cancel", job_id=job_id))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "conflict")


async def test_jobs_are_listed_newest_first_page_by_page(jobs: JobsStub) -> None:
    ids = [await jobs.submit(tags=[f"t{number % 2}"]) for number in range(3)]
    await jobs.submit(type="infer")
    first = await jobs.call("List", type=["train"], limit=2)
    assert [job.job_id for job in first.jobs] == [ids[2], ids[1]]
    second = await jobs.call("List", type=["train"], limit=2, cursor=first.next_cursor)
    assert [job.job_id for job in second.jobs] == [ids[0]]
    assert second.next_cursor == ""
    tagged = await jobs.call("List", tag=["t1"], status=[jobs_pb2.STATUS_QUEUED])
    assert [job.job_id for job in tagged.jobs] == [ids[1]]


async def test_a_long_poll_answers_when_the_job_changes(
    nats: NatsServer, gateway: RunningGateway, jobs: JobsStub
) -> None:
    job_id = await jobs.submit()
    job = await jobs.call("Get", job_id=job_id)
    await report(nats, gateway, job_id, status="processing")
    changed = await jobs.call("Get", job_id=job_id, wait=Duration(seconds=15), version=job.version)
    assert (changed.status, changed.version > job.version) == (jobs_pb2.STATUS_PROCESSING, True)
    same = await jobs.call("Get", job_id=job_id, wait=Duration(nanos=10_000_000))
    assert same.version == changed.version


async def test_a_watch_goes_on_where_it_was_left(
    nats: NatsServer, gateway: RunningGateway, jobs: JobsStub
) -> None:
    job_id = await jobs.submit()
    watch = jobs.watch(job_id)
    known = await watch.read()
    assert known.status == jobs_pb2.STATUS_QUEUED
    watch.cancel()
    await report(nats, gateway, job_id, status="processing", provider_id="gpu-7")
    resumed = jobs.watch(job_id, after=known.id)
    started = await resumed.read()
    assert (started.status, started.worker) == (jobs_pb2.STATUS_PROCESSING, "gpu-7")
    await report(nats, gateway, job_id, status="failed", exit_code=2)
    (ended,) = await events(resumed)
    assert (ended.status, ended.error) == (jobs_pb2.STATUS_FAILED, "exit code 2")
    assert await events(jobs.watch(job_id, after=ended.id)) == []
    assert [event.id for event in await events(jobs.watch(job_id))] == [
        known.id,
        started.id,
        ended.id,
    ]


async def test_a_watch_says_at_once_that_it_has_begun(jobs: JobsStub) -> None:
    job_id = await jobs.submit()
    known = (await jobs.call("Get", job_id=job_id)).version
    watch = jobs.watch(job_id, after=known)
    assert dict(await watch.initial_metadata())["x-request-id"]
    watch.cancel()


async def test_a_drain_ends_a_watch_as_something_to_come_back_to(
    gateway: RunningGateway, jobs: JobsStub
) -> None:
    watch = jobs.watch(await jobs.submit())
    await watch.read()
    gateway.send(signal.SIGTERM)
    error = await refused(events(watch))
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "draining")


async def test_a_deadline_ends_a_watch(gateway: RunningGateway, jobs: JobsStub) -> None:
    watch = jobs.watch(await jobs.submit(), timeout=0.1)
    error = await refused(events(watch))
    assert error.code == grpc.StatusCode.DEADLINE_EXCEEDED

    async def has_ended() -> bool:
        return await gateway.in_flight(0)

    await eventually(has_ended)


async def test_users_see_their_own_jobs_and_admins_all(owned: dict[str, JobsStub]) -> None:
    job_id = await owned["alice"].submit()
    for method in ("Get", "Cancel"):
        error = await refused(owned["bob"].call(method, job_id=job_id))
        assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "not_found")
    assert (await refused(events(owned["bob"].watch(job_id)))).code == grpc.StatusCode.NOT_FOUND
    assert (await owned["alice"].call("Get", job_id=job_id)).user_id == "alice"
    for name, sees in (("alice", True), ("bob", False), ("root", True)):
        listed = await owned[name].call("List")
        assert (job_id in [job.job_id for job in listed.jobs]) is sees
    assert (await owned["root"].call("Cancel", job_id=job_id)).job_id == job_id


async def test_without_credentials_nobody_gets_in(owned: dict[str, JobsStub]) -> None:
    nobody = owned["nobody"]
    for call in (nobody.submit(), nobody.call("List"), events(nobody.watch("x"))):
        error = await refused(call)
        assert (error.code, error.reason) == (grpc.StatusCode.UNAUTHENTICATED, "unauthenticated")


async def test_rest_and_grpc_share_their_limits(serve: Serve, nats: NatsServer) -> None:
    limit = "rate_limit: [{requests: 2, per: 1h, key: client_ip}], stream: limited"
    gateway = await serve(f'consul_address: ""\nnats_address: {nats.address}\njobs: {{{limit}}}\n')
    assert (await gateway.get(f"{JOBS}/x")).status == 404
    async with aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        jobs = JobsStub(channel)
        assert (await refused(jobs.call("Get", job_id="x"))).code == grpc.StatusCode.NOT_FOUND
        error = await refused(jobs.call("Get", job_id="x"))
    assert (error.code, error.reason) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "rate_limited",
    )
    assert (await gateway.get(f"{JOBS}/x")).status == 429


async def test_without_a_queue_there_are_no_jobs(serve: Serve) -> None:
    gateway = await serve('consul_address: ""\nnats_address: ""\n')
    async with aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        error = await refused(JobsStub(channel).submit())
    assert (error.code, error.reason) == (grpc.StatusCode.UNIMPLEMENTED, "jobs_disabled")


async def test_calls_are_counted_and_logged(gateway: RunningGateway, jobs: JobsStub) -> None:
    await jobs.submit()
    await refused(jobs.call("Get", job_id="x"))
    labels = 'grpc_service="siger.jobs.v1.Jobs"'
    for code, method in (("OK", "Submit"), ("NOT_FOUND", "Get")):
        series = f'siger_grpc_calls_total{{grpc_code="{code}",grpc_method="{method}",{labels}}}'
        assert await gateway.metric(series) == 1

    async def logged() -> list[dict[str, object]]:
        lines = [json.loads(line) for line in gateway.access_log.read_text().splitlines()]
        return [one for one in lines if one["path"] == "/siger.jobs.v1.Jobs/Get"]

    (line,) = await eventually(logged)
    assert (line["route"], line["status"], line["reason"]) == ("jobs", 404, "not_found")
    assert line["detail"] == "grpc-status NOT_FOUND"
