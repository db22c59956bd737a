"""Whether this gateway, and each service behind it, is serving; and when to look again.

What is known comes from everywhere (discovery, health checks, outlier detection, the job queue), so
nobody announces it: those who follow it look again, once a second while there are any.
"""

from __future__ import annotations

from asyncio import FIRST_COMPLETED, Event, Future, ensure_future, wait
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from siger_gateway.api.health import Facts, is_ready
from siger_gateway.errors import GatewayError

T = TypeVar("T")

EVERY: Final = 1.0
"""Seconds between two looks."""


class Serving:
    """:param facts: what health is judged by.
    :param available: whether a service has an endpoint to choose from; None: there is no such.
    """

    def __init__(self, facts: Callable[[], Facts], available: Callable[[str], bool | None]) -> None:
        self._facts = facts
        self._available = available
        self._following: set[Event] = set()
        self._next = 0.0

    def of(self, name: str) -> bool | None:
        """Whether it is serving; None: there is nothing of that name.

        :param name: of a configured service; "": the gateway itself, as ``/health/ready`` says.
        """
        facts = self._facts()
        if not name:
            return is_ready(facts)
        known = self._available(name)
        # Whoever asks this gateway wants to call the service here.
        return known if known is None or facts.serving else False

    @property
    def draining(self) -> bool:
        return self._facts().draining

    @contextmanager
    def following(self) -> Iterator[Event]:
        """An event that is set whenever it is worth while to look again."""
        event = Event()
        self._following.add(event)
        try:
            yield event
        finally:
            self._following.discard(event)

    async def until_drained(self, asked: AsyncIterator[T]) -> AsyncGenerator[T, None]:
        """What is ``asked``, until the gateway drains: for conversations that last as long as the
        client likes. A question that is being answered by then is still answered.

        :raises GatewayError: ``draining``.
        """
        coming: Future[T] | None = None
        with self.following() as changed:
            try:
                while True:
                    coming = ensure_future(anext(asked))
                    while not coming.done():
                        if self.draining:
                            raise GatewayError("draining")
                        changed.clear()
                        await _either(coming, changed)
                    try:
                        one = coming.result()
                    except StopAsyncIteration:
                        return
                    yield one
            finally:
                if coming is not None:
                    coming.cancel()

    def look(self, now: float) -> None:
        """For every tick.

        :param now: the loop's time.
        """
        if self._following and now >= self._next:
            self._next = now + EVERY
            self.wake()

    def wake(self) -> None:
        """Something has certainly changed."""
        for event in self._following:
            event.set()


async def _either(coming: Future[T], changed: Event) -> None:
    """Waits until one of them has happened."""
    changing = ensure_future(changed.wait())
    try:
        await wait((coming, changing), return_when=FIRST_COMPLETED)
    finally:
        changing.cancel()
