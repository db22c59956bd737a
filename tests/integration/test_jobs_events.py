"""Event streams: complete, resumable, bounded, and gone when the client is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from siger_gateway.jobs.ownership import UNRESTRICTED
from tests.jobs_gateway import BOUND, JobsGateway, eventually
from tests.nats_server import NatsServer


@pytest.fixture
def nats() -> Any:
    with NatsServer() as server:
        yield server


@pytest.fixture
async def gateway(nats: NatsServer) -> AsyncIterator[JobsGateway]:
    async with JobsGateway(nats.address) as gateway:
        yield await gateway.live()


async def finished(gateway: JobsGateway, steps: int = 3) -> str:
    """A job with a progress event per step, illegal ones in between."""
    job_id = await gateway.submit()
    for step in range(steps):
        await gateway.report(job_id, status="processing", progress=step, message=f"step {step}")
        await gateway.report(job_id, status="cancelled")
    await gateway.report(job_id, status="completed", result={"steps": steps})
    await gateway.report(job_id, status="processing")
    await gateway.until(job_id, "completed")
    return job_id


async def test_the_whole_story_of_a_job_and_then_the_end(gateway: JobsGateway) -> None:
    job_id = await finished(gateway)
    async with gateway.events(job_id) as stream:
        assert "content-type: text/event-stream" in stream.head
        assert "cache-control: no-store" in stream.head
        events = await stream.all()
    assert [data["status"] for _, data in events] == [
        "queued",
        *["processing"] * 3,
        "completed",
    ]
    assert [seq for seq, _ in events] == [1, 2, 4, 6, 8]
    assert events[-1][1]["result"] == {"steps": 3}
    assert {data["job_id"] for _, data in events} == {job_id}


async def test_every_event_can_be_resumed_after(gateway: JobsGateway) -> None:
    job_id = await finished(gateway)
    async with gateway.events(job_id) as stream:
        events = await stream.all()
    for position, (seq, _) in enumerate(events[:-1]):
        async with gateway.events(job_id, seq) as stream:
            assert await stream.all() == events[position + 1 :]
    async with gateway.events(job_id, events[-1][0]) as stream:
        assert stream.status == 204  # tells EventSource to stop


async def test_an_id_that_the_job_never_had_gets_the_whole_story(gateway: JobsGateway) -> None:
    job_id = await finished(gateway)
    async with gateway.events(job_id, 10_000) as stream:
        assert len(await stream.all()) == 5


async def test_events_come_as_they_happen(gateway: JobsGateway) -> None:
    job_id = await gateway.submit()
    async with gateway.events(job_id) as stream:
        assert (await stream.next() or (0, {}))[1]["status"] == "queued"
        for status in ("processing", "failed"):
            await gateway.report(job_id, status=status)
            assert (await stream.next() or (0, {}))[1]["status"] == status
        assert await stream.next() is None
    await eventually(lambda: not gateway.ledger._watches, "the watch is gone")


async def test_a_resumed_stream_opens_at_once_even_without_news(gateway: JobsGateway) -> None:
    job_id = await gateway.submit()
    async with gateway.events(job_id, 1) as stream:
        assert stream.status == 200
        await gateway.report(job_id, status="completed")
        assert [seq for seq, _ in await stream.all()] == [2]


async def test_a_client_that_goes_away_leaves_nothing(gateway: JobsGateway) -> None:
    job_id = await gateway.submit()
    async with gateway.events(job_id) as stream:
        await stream.next()
        assert gateway.ledger._watches
    await eventually(lambda: not gateway.ledger._watches, "the watch is gone")


async def test_silence_is_filled_with_comments(
    gateway: JobsGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("siger_gateway.api.jobs.HEARTBEAT", 0.02)
    job_id = await gateway.submit()
    async with gateway.events(job_id) as stream:
        await stream.next()
        async with asyncio.timeout(BOUND):
            seen = [await stream._block() for _ in range(3)]
    assert seen == [": still here"] * 3


async def test_a_drain_ends_the_streams(gateway: JobsGateway) -> None:
    job_id = await gateway.submit()
    async with gateway.events(job_id) as stream:
        await stream.next()
        gateway.ledger.release()
        assert await stream.next() is None


async def test_a_slow_reader_misses_nothing_and_holds_no_more_than_the_bound(
    gateway: JobsGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("siger_gateway.jobs.ledger.WATCH_EVENTS", 4)
    job_id = await gateway.submit()
    async with gateway.ledger.watch(job_id, UNRESTRICTED) as watch:
        events = gateway.ledger.events(watch, 0, BOUND)
        first = await anext(events)
        assert [event.seq for event in first] == [1]
        assert await anext(events) == []  # the past is told
        for step in range(20):
            await gateway.report(job_id, status="processing", progress=step)
        await gateway.report(job_id, status="completed")
        await gateway.until(job_id, "completed")
        assert len(watch.events) <= 4
        assert watch.lost
        seen = [event.seq async for news in events for event in news]
    assert seen == list(range(2, 23))


async def test_all_who_follow_a_job_are_told_the_same_in_the_same_order(
    gateway: JobsGateway,
) -> None:
    job_id = await gateway.submit()
    async with contextlib.AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(gateway.events(job_id)) for _ in range(5)]
        for stream in streams:
            await stream.next()  # queued: from here on all of them are told by the reader
        for step in range(100):  # more than frames are kept
            await gateway.report(job_id, status="processing", progress=step)
        await gateway.report(job_id, status="completed", result={"loss": 0.5})
        told = [await stream.all() for stream in streams]
    assert [seq for seq, _ in told[0]] == list(range(2, 103))
    assert [event.get("progress") for _, event in told[0][:100]] == list(range(100))
    assert told[0][-1][1]["result"] == {"loss": 0.5}
    assert told == told[:1] * 5


async def test_jobs_beyond_the_memory_bound_are_still_followed(nats: NatsServer) -> None:
    async with JobsGateway(nats.address, ledger_jobs=1) as gateway:
        await gateway.live()
        job_id = await gateway.submit()
        await gateway.submit()
        await eventually(lambda: len(gateway.ledger) == 1, "one job in memory")
        assert (await gateway.job(job_id))["status"] == "queued"
        async with gateway.events(job_id) as stream:
            await stream.next()
            await gateway.report(job_id, status="processing", progress=10)
            assert (await stream.next() or (0, {}))[1]["progress"] == 10
            waiting = asyncio.create_task(gateway.until(job_id, "completed"))
            await gateway.report(job_id, status="completed", result=7)
            assert (await stream.all())[-1][1]["result"] == 7
            assert (await waiting)["result"] == 7
        listed = await gateway.call("GET", "/api/v1/jobs")
        assert len(listed.json["jobs"]) == 1


async def test_more_events_than_one_page_of_history(
    gateway: JobsGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("siger_gateway.jobs.stream.PAGE", 3)
    job_id = await finished(gateway, steps=10)
    async with gateway.events(job_id) as stream:
        assert len(await stream.all()) == 12
