"""Tasks that run at once, as far as they get without waiting (Python 3.12's eager tasks, on 3.11).

What is wired together in memory never waits for a connection: with these tasks, a pool that dials
in memory calls back before ``wait`` returns, and tests need no turn of the loop between two feeds.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator
from typing import Any


def make_tasks_eager(loop: asyncio.AbstractEventLoop) -> None:
    """From now on, for all tasks of ``loop``."""
    loop.set_task_factory(_start)


def _start(
    loop: asyncio.AbstractEventLoop, coroutine: Any, **_: Any
) -> asyncio.Future[Any] | asyncio.Task[Any]:
    if asyncio.current_task(loop) is None:  # a callback: there ``asyncio.timeout`` does not work
        return asyncio.Task(coroutine, loop=loop)
    try:
        awaited = coroutine.send(None)
    except StopIteration as end:
        done: asyncio.Future[Any] = loop.create_future()
        done.set_result(end.value)
        return done
    return asyncio.Task(_go_on(coroutine, awaited), loop=loop)


async def _go_on(coroutine: Coroutine[Any, Any, Any], awaited: Any) -> Any:
    return await _rest(coroutine, awaited)


@types.coroutine
def _rest(coroutine: Coroutine[Any, Any, Any], awaited: Any) -> Generator[Any, Any, Any]:
    """What is left of a coroutine that waits for ``awaited``."""
    while True:
        try:
            try:
                value = yield awaited
            except asyncio.CancelledError as error:
                awaited = coroutine.throw(error)
            else:
                awaited = coroutine.send(value)
        except StopIteration as end:
            return end.value
