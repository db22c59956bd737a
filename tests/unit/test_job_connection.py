"""Ending tasks for certain, and what a connection is before there is one."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from nats.aio.client import Client

from siger_gateway.jobs.connection import Connection, NotConnected, end


async def never(client: Client) -> None:
    raise AssertionError("there is no server to set up")


async def test_a_task_that_loses_a_cancellation_is_ended_all_the_same() -> None:
    cancellations = 0

    async def stubborn() -> None:
        nonlocal cancellations
        while cancellations < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancellations += 1

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await end([task], again=0.01)
    assert task.done()
    assert cancellations == 2


async def test_tasks_that_are_over_are_left_alone() -> None:
    async def fail() -> None:
        raise ValueError("seen by nobody")

    task = asyncio.create_task(fail())
    with contextlib.suppress(ValueError):
        await task
    await end([task])


async def test_without_a_connection_nothing_is_sent() -> None:
    connection = Connection("127.0.0.1:1", "test", never)
    assert not connection.connected
    with pytest.raises(NotConnected, match="not started"):
        await connection.request("jobs.submit.t.normal.id", b"", 1.0, {})
    connection.start()
    with pytest.raises(NotConnected, match="connecting"):
        await connection.request("jobs.submit.t.normal.id", b"", 1.0, {})
    await connection.close()
    assert connection.problem == "closed"


async def test_without_a_server_there_is_nothing_to_start() -> None:
    connection = Connection(" , ", "test", never)
    connection.start()
    assert connection.problem == "no server is configured"
    await connection.close()
