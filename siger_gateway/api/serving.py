"""Whether this gateway, and each service behind it, is serving; and when to look again.

What is known comes from everywhere (discovery, health checks, outlier detection, the job queue), so
nobody announces it: those who follow it look again, once a second while there are any.
"""

from __future__ import annotations

from asyncio import Event
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from siger_gateway.api.health import Facts, is_ready

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
