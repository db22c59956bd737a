"""What breaks: the server, the network, a gateway, a worker, the stream. And what must hold."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from siger_gateway.jobs.ownership import UNRESTRICTED
from siger_gateway.jobs.worker import Job, JobContext, Worker
from tests.jobs_gateway import BOUND, JOBS, JobsGateway, eventually, working
from tests.nats_server import NatsServer


@pytest.fixture
def nats() -> Any:
    with NatsServer() as server:
        yield server


@pytest.fixture
async def gateway(nats: NatsServer) -> AsyncIterator[JobsGateway]:
    async with JobsGateway(nats.address) as gateway:
        yield await gateway.live()


async def submitted_ids(gateway: JobsGateway) -> Counter[str]:
    """How often each job stands in the stream."""
    client = gateway.queue.connection.client()
    js = client.jetstream()
    last = (await js.stream_info("jobs")).state.last_seq
    ids: Counter[str] = Counter()
    for seq in range(1, last + 1):
        subject = (await js.get_msg("jobs", seq=seq)).subject
        if subject.startswith("jobs.submit."):
            ids[subject.rpartition(".")[2]] += 1
    return ids


async def test_without_nats_jobs_are_refused_at_once_and_later_work_by_themselves(
    nats: NatsServer,
) -> None:
    nats.stop()
    async with JobsGateway(nats.address) as gateway:
        for method, path, body in [
            ("POST", JOBS, {"type": "t", "name": "n"}),
            ("GET", JOBS, None),
            ("GET", f"{JOBS}/01890a5d-ac96-774b-bcce-b302099a8057", None),
        ]:
            async with asyncio.timeout(1.0):
                answer = await gateway.call(method, path, body)
            assert (answer.status, answer.json["reason"]) == (503, "queue_unavailable")
            assert int(answer.headers["Retry-After"]) > 0
        assert b"siger_nats_connected 0.0" in gateway.metrics.render("")[0]
        await nats.start_soon()
        await gateway.live()
        await gateway.job(await gateway.submit())
        assert b"siger_nats_connected 1.0" in gateway.metrics.render("")[0]
        assert b"siger_ledger_jobs 1.0" in gateway.metrics.render("")[0]


async def test_known_jobs_are_answered_while_nats_is_away(
    nats: NatsServer, gateway: JobsGateway
) -> None:
    job_id = await gateway.submit()
    assert (await gateway.job(job_id))["status"] == "queued"
    nats.kill()
    await eventually(lambda: not gateway.queue.connected, "the loss is noticed")
    assert (await gateway.job(job_id))["status"] == "queued"
    assert len((await gateway.call("GET", JOBS)).json["jobs"]) == 1
    for method, path, body in [
        ("DELETE", f"{JOBS}/{job_id}", None),
        ("POST", JOBS, {"type": "t", "name": "n"}),
    ]:
        refused = await gateway.call(method, path, body)
        assert (refused.status, refused.json["reason"]) == (503, "queue_unavailable")
    await nats.start_soon()
    await gateway.live()
    js = gateway.queue.connection.client().jetstream()
    assert (await js.stream_info("jobs")).state.messages == 1  # what was refused does not come


async def test_every_accepted_job_survives_kill_9_exactly_once(
    nats: NatsServer, gateway: JobsGateway
) -> None:
    accepted: list[str] = []
    answers: Counter[int] = Counter()
    stop = asyncio.Event()

    async def client(number: int) -> None:
        """Submits job after job; repeats each until it is accepted, as a careful client does."""
        count = 0
        while not stop.is_set():
            key = {"Idempotency-Key": f"{number}-{count}"}
            body = {"type": "train", "name": f"{number}-{count}"}
            answer = await gateway.call("POST", JOBS, body, key)
            answers[answer.status] += 1
            if answer.status == 202:
                accepted.append(answer.json["job_id"])
                count += 1
            else:
                assert answer.status == 503
                assert answer.json["reason"] in ("queue_unavailable", "queue_ambiguous")
                await asyncio.sleep(0.01)

    clients = [asyncio.create_task(client(number)) for number in range(8)]
    for _ in range(2):
        known = len(accepted)
        await eventually(lambda known=known: len(accepted) >= known + 40, "jobs are accepted")
        nats.kill()
        refused = answers[503]
        await eventually(lambda refused=refused: answers[503] > refused, "jobs are refused")
        await nats.start_soon()
    known = len(accepted)
    await eventually(lambda: len(accepted) >= known + 40, "jobs are accepted again")
    stop.set()
    await asyncio.gather(*clients)

    assert len(set(accepted)) == len(accepted)
    assert await submitted_ids(gateway) == Counter(accepted)
    await gateway.live()
    for job_id in accepted:
        assert (await gateway.ledger.get(job_id, UNRESTRICTED)).status == "queued"
    assert len(gateway.ledger) == len(accepted)


async def test_an_unconfirmed_submission_names_the_job_and_may_be_repeated(
    nats: NatsServer, gateway: JobsGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("siger_gateway.jobs.queue.ACK_TIMEOUT", 0.1)
    nats.pause()
    body, key = {"type": "t", "name": "n"}, {"Idempotency-Key": "k"}
    answer = await gateway.call("POST", JOBS, body, key)
    assert (answer.status, answer.json["reason"]) == (503, "queue_ambiguous")
    assert "Retry-After" in answer.headers
    nats.resume()
    monkeypatch.setattr("siger_gateway.jobs.queue.ACK_TIMEOUT", 5.0)
    repeated = await gateway.call("POST", JOBS, body, key)
    assert repeated.status == 202
    assert repeated.json["job_id"] == answer.json["job_id"]
    assert await submitted_ids(gateway) == {answer.json["job_id"]: 1}


async def test_a_connection_lost_while_waiting_is_told_at_once(
    nats: NatsServer, gateway: JobsGateway
) -> None:
    nats.pause()
    waiting = asyncio.create_task(gateway.call("POST", JOBS, {"type": "t", "name": "n"}))
    await eventually(lambda: gateway.queue._in_flight, "it waits for its confirmation")
    nats.kill()
    async with asyncio.timeout(2.0):  # not the five seconds of an ordinary timeout
        answer = await waiting
    assert (answer.status, answer.json["reason"]) == (503, "queue_ambiguous")
    assert answer.json["job_id"]


async def test_a_server_that_hangs_is_given_up(
    nats: NatsServer, gateway: JobsGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("siger_gateway.jobs.connection.PING_INTERVAL", 0.05)
    nats.kill()
    await nats.start_soon()
    await gateway.live()  # a connection with the short interval
    nats.pause()
    await eventually(lambda: not gateway.queue.connected, "the hang is noticed")
    nats.resume()
    await gateway.live()
    await gateway.submit()


async def test_a_second_gateway_says_the_same(nats: NatsServer, gateway: JobsGateway) -> None:
    async with JobsGateway(nats.address) as replica:
        await replica.live()
        job_id = await gateway.submit()
        assert (await replica.job(job_id))["status"] == "queued"  # a millisecond later
        assert (await replica.call("DELETE", f"{JOBS}/{job_id}")).status == 202
        await gateway.until(job_id, "cancelling")
        await gateway.report(job_id, status="cancelled")
        await replica.until(job_id, "cancelled")
        await gateway.until(job_id, "cancelled")
        assert await replica.job(job_id) == await gateway.job(job_id)


async def test_a_gateway_that_starts_again_knows_every_job(
    nats: NatsServer, gateway: JobsGateway
) -> None:
    ids = [await gateway.submit() for _ in range(4)]
    await gateway.report(ids[0], status="processing", progress=5)
    await gateway.report(ids[1], status="completed", result={"a": [1]})
    await gateway.report(ids[1], status="failed")
    await gateway.call("DELETE", f"{JOBS}/{ids[2]}")
    await gateway.until(ids[1], "completed")
    nats.kill()
    await nats.start_soon()
    async with JobsGateway(nats.address) as successor:
        await successor.live()
        await gateway.live()
        for job_id in ids:
            assert await successor.job(job_id) == await gateway.job(job_id)
        first, second = await successor.call("GET", JOBS), await gateway.call("GET", JOBS)
        assert first.json == second.json
        assert successor.metrics.job_events == {}  # what was before its time is not counted


async def test_events_during_an_outage_of_the_reader_are_applied_once(
    nats: NatsServer, gateway: JobsGateway
) -> None:
    job_id = await gateway.submit()
    for number in range(3):
        nats.kill()
        await eventually(lambda: not gateway.queue.connected, "the loss is noticed")
        await nats.start_soon()
        await eventually(lambda: gateway.queue.connected, "connected")
        js = gateway.queue.connection.client().jetstream()  # confirmed: the next kill is hard
        event = {"status": "processing", "progress": number}
        await js.publish(gateway.queue.subjects.status(job_id), orjson.dumps(event))
    await gateway.live()
    await eventually(lambda: gateway.metrics.job_events["processing"] == 3, "three events")
    assert gateway.metrics.job_events == {"queued": 1, "processing": 3}


async def test_a_stream_that_was_deleted_is_made_and_read_anew(
    nats: NatsServer, gateway: JobsGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("siger_gateway.jobs.reader.HEARTBEAT", 0.1)
    nats.kill()
    await eventually(lambda: not gateway.queue.connected, "the loss is noticed")
    await nats.start_soon()
    await gateway.live()  # a reader with the short interval
    old = [await gateway.submit() for _ in range(3)]
    async with gateway.events(old[0]) as stream:
        await stream.next()
        js = gateway.queue.connection.client().jetstream()
        await js.delete_stream("jobs")

        async def again() -> str:
            while True:  # whether the gateway notices before the first one is chance
                answer = await gateway.call("POST", JOBS, {"type": "t", "name": "n"})
                if answer.status == 202:
                    return str(answer.json["job_id"])
                assert (answer.status, answer.json["reason"]) == (503, "queue_unavailable")

        async with asyncio.timeout(BOUND):
            new = await again()
        assert (await gateway.job(new))["status"] == "queued"
        await eventually(lambda: len(gateway.ledger) == 1, "the old jobs are forgotten")
        await gateway.live()
        assert (await gateway.call("GET", f"{JOBS}/{old[0]}")).status == 404
        assert await stream.next() is None


async def test_a_stream_with_other_settings_is_brought_to_the_configured_ones(
    nats: NatsServer, gateway: JobsGateway
) -> None:
    async with JobsGateway(nats.address, max_age=3600.0) as other:
        await other.live()
        js = other.queue.connection.client().jetstream()
        assert (await js.stream_info("jobs")).config.max_age == 3600.0


async def test_a_stream_that_cannot_be_used_is_said_so(nats: NatsServer) -> None:
    async with JobsGateway(nats.address) as first:
        await first.live()
        js = first.queue.connection.client().jetstream()
        await js.delete_stream("jobs")
        await js.add_stream(name="jobs", subjects=["jobs.>"], storage="memory")
        async with JobsGateway(nats.address) as gateway:
            await eventually(lambda: "storage" in gateway.queue.problem, "the problem is named")
            assert not gateway.queue.connected


async def returns_one(job: Job, context: JobContext) -> object:
    return 1


WORKER = """
import asyncio, sys
from siger_gateway.jobs.worker import Worker
async def hang(job, context):
    print("running", flush=True)
    await asyncio.Event().wait()
asyncio.run(Worker(sys.argv[1], "train", handler=hang, ack_wait=0.5).run())
"""


async def test_a_job_of_a_killed_worker_goes_to_another(
    nats: NatsServer, gateway: JobsGateway
) -> None:
    attempts = []

    async def run(job: Job, context: JobContext) -> object:
        attempts.append(job.attempt)
        return None

    job_id = await gateway.submit()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKER, nats.address, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(BOUND):
        assert await process.stdout.readline() == b"running\n"
    process.send_signal(signal.SIGKILL)
    await process.wait()
    assert (await gateway.job(job_id))["status"] == "processing"
    async with working(Worker(nats.address, "train", handler=run, ack_wait=0.5)):
        await gateway.until(job_id, "completed")
    assert attempts == [2]


async def test_a_worker_that_is_stopped_gives_its_job_back_at_once(
    nats: NatsServer, gateway: JobsGateway
) -> None:
    started = asyncio.Event()

    async def hang(job: Job, context: JobContext) -> object:
        started.set()
        return await asyncio.Event().wait()

    job_id = await gateway.submit()
    async with working(Worker(nats.address, "train", handler=hang, stop_grace=0.01)):
        await started.wait()
    async with working(Worker(nats.address, "train", handler=returns_one)):
        assert (await gateway.until(job_id, "completed"))["result"] == 1


async def test_a_worker_that_is_stopped_finishes_what_it_can(
    nats: NatsServer, gateway: JobsGateway
) -> None:
    started, finish = asyncio.Event(), asyncio.Event()

    async def run(job: Job, context: JobContext) -> object:
        started.set()
        await finish.wait()
        return "done"

    first, second = await gateway.submit(), await gateway.submit()
    worker = Worker(nats.address, "train", handler=run)
    task = asyncio.create_task(worker.run())
    await started.wait()
    worker.stop()
    finish.set()
    await task
    assert (await gateway.job(first))["result"] == "done"
    assert (await gateway.job(second))["status"] == "queued"


async def test_a_job_that_always_kills_its_worker_is_given_up(
    nats: NatsServer, gateway: JobsGateway
) -> None:
    started = asyncio.Event()

    async def hang(job: Job, context: JobContext) -> object:
        started.set()
        return await asyncio.Event().wait()

    job_id = await gateway.submit()
    async with working(Worker(nats.address, "train", handler=hang, stop_grace=0.0)):
        await started.wait()
    async with working(Worker(nats.address, "train", handler=returns_one, max_attempts=1)):
        assert (await gateway.until(job_id, "failed"))["error"] == "given up after 1 attempts"


async def test_a_finished_job_is_not_run_again(nats: NatsServer, gateway: JobsGateway) -> None:
    ran = []

    async def run(job: Job, context: JobContext) -> object:
        ran.append(job.id)
        return None

    finished = await gateway.submit()
    await gateway.report(finished, status="completed")
    await gateway.until(finished, "completed")
    async with working(Worker(nats.address, "train", handler=run)):
        fresh = await gateway.submit()
        await gateway.until(fresh, "completed")
    assert ran == [fresh]


async def test_a_running_job_outlives_a_restart_of_nats(
    nats: NatsServer, gateway: JobsGateway
) -> None:
    started, finish = asyncio.Event(), asyncio.Event()

    async def run(job: Job, context: JobContext) -> object:
        started.set()
        await finish.wait()
        await context.progress(90, "nobody hears this")
        return job.attempt

    async with working(Worker(nats.address, "train", handler=run)) as worker:
        job_id = await gateway.submit()
        await started.wait()
        nats.kill()
        await eventually(lambda: not worker.connection.connected, "the loss is noticed")
        finish.set()
        await nats.start_soon()
        assert (await gateway.until(job_id, "completed"))["result"] == 1
        assert gateway.metrics.job_events["completed"] == 1
        await gateway.until(await gateway.submit(), "completed")  # and it goes on


async def test_a_cancel_request_that_a_worker_missed_is_found_when_it_is_back(
    nats: NatsServer, gateway: JobsGateway
) -> None:
    started = asyncio.Event()

    async def hang(job: Job, context: JobContext) -> object:
        started.set()
        return await asyncio.Event().wait()

    worker = Worker(nats.address, "train", handler=hang, cancel_grace=0.01)
    async with working(worker):
        job_id = await gateway.submit()
        await started.wait()
        client = worker.connection.client()
        for subscription in list(client._subs.values()):  # as if the message had got lost
            if subscription.subject == "jobs.cancel.*":
                await subscription.unsubscribe()
        await client.flush()
        assert (await gateway.call("DELETE", f"{JOBS}/{job_id}")).status == 202
        await client.close()
        await gateway.until(job_id, "cancelled")


async def test_urgent_jobs_go_first_and_each_runs_once(
    nats: NatsServer, gateway: JobsGateway
) -> None:
    order = []

    async def run(job: Job, context: JobContext) -> object:
        order.append(job.id)
        return None

    normal = [await gateway.submit() for _ in range(3)]
    high = [await gateway.submit(priority=90) for _ in range(3)]
    async with working(Worker(nats.address, "train", handler=run)):
        await gateway.until(normal[-1], "completed")
    assert order == high + normal


async def test_workers_share_their_jobs(nats: NatsServer, gateway: JobsGateway) -> None:
    ran: Counter[str] = Counter()

    async def run(job: Job, context: JobContext) -> object:
        ran[job.id] += 1
        return None

    async with (
        working(Worker(nats.address, "train", concurrency=4, handler=run)),
        working(Worker(nats.address, "train", "normal", concurrency=2, handler=run)),
    ):
        ids = await asyncio.gather(
            *(gateway.submit(priority=number % 2 * 80) for number in range(40))
        )
        for job_id in ids:
            await gateway.until(job_id, "completed")
    assert ran == dict.fromkeys(ids, 1)


@pytest.mark.parametrize("result", [{1, 2}, "x" * 950_000])
async def test_a_result_that_cannot_be_stored_fails_the_job(
    nats: NatsServer, gateway: JobsGateway, result: object
) -> None:
    async def run(job: Job, context: JobContext) -> object:
        return result

    async with working(Worker(nats.address, "train", handler=run)):
        job = await gateway.until(await gateway.submit(), "failed")
    assert "result" in job["error"]


def test_a_worker_refuses_what_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="lane"):
        Worker("localhost:4222", "train", "urgent", handler=returns_one)
    with pytest.raises(ValueError, match="concurrency"):
        Worker("localhost:4222", "train", concurrency=0, handler=returns_one)


async def test_sigterm_stops_a_worker(nats: NatsServer, gateway: JobsGateway) -> None:
    worker = Worker(nats.address, "train", handler=returns_one)
    task = asyncio.create_task(worker.run_until_signal())
    await gateway.until(await gateway.submit(), "completed")
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(BOUND):
        await task


async def test_messages_that_are_no_jobs_do_no_harm(nats: NatsServer, gateway: JobsGateway) -> None:
    client = gateway.queue.connection.client()
    for subject, data in [
        ("jobs.submit.train.normal.not-json", b"\xff"),
        ("jobs.submit.train", b"{}"),
        ("jobs.status.unknown", orjson.dumps({"status": "completed"})),
        ("jobs.status.a.b", b""),
        ("jobs.cancel.unknown", b""),
    ]:
        await client.publish(subject, data)
    await client.flush()
    async with working(Worker(nats.address, "train", handler=returns_one)):
        await gateway.until(await gateway.submit(), "completed")
    assert gateway.metrics.job_events["orphan"] == 2
