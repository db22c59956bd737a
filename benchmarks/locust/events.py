"""Server-sent events of jobs: ``locust -f benchmarks/locust/events.py``.

Locust counts the head of the response as any other; ``SSE first event`` is the time from the
request to the first event, ``SSE cancelled`` that from a cancellation to the event that says so.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from locust import HttpUser, between, task

from benchmarks.locust.jobs import JOBS, ONE
from benchmarks.locust.settings import credentials

ENDINGS = ("cancelling", "cancelled", "completed", "failed")
SILENCE = 20.0
"""Seconds without a byte after which a stream counts as dead; the gateway sends comments."""


class EventUser(HttpUser):
    """Somebody who watches a job, and cancels it."""

    weight = 1
    wait_time = between(0.2, 0.5)

    def on_start(self) -> None:
        self.client.headers.update(credentials(self.environment.parsed_options))

    @task
    def watch(self) -> None:
        body = {"type": self.environment.parsed_options.job_type, "name": "load"}
        with self.client.post(JOBS, json=body, name=JOBS, catch_response=True) as answer:
            if answer.status_code != 202:
                answer.failure(f"status {answer.status_code}")
                return
            place = f"{JOBS}/{answer.json()['job_id']}"
        began = time.perf_counter()
        with self.client.get(
            f"{place}/events",
            headers={"Accept": "text/event-stream"},
            name=f"{ONE}/events",
            stream=True,
            timeout=SILENCE,
            catch_response=True,
        ) as answer:
            if answer.status_code != 200:
                answer.failure(f"status {answer.status_code}")
                return
            answer.success()
            self._follow(place, answer, began)

    def _follow(self, place: str, answer: Any, began: float) -> None:
        """Two events: what the job is, and that it is being cancelled."""
        what = "first event"
        try:
            events = events_of(answer.iter_lines(chunk_size=1))
            next(events)
            self._count(what, began)
            what, began = "cancelled", time.perf_counter()
            with self.client.delete(place, name=ONE, catch_response=True) as cancelled:
                if cancelled.status_code in (202, 409):
                    cancelled.success()
            while next(events).get("status") not in ENDINGS:
                pass
            self._count(what, began)
        except StopIteration:
            self._count(what, began, EOFError("the stream ended"))
        except (OSError, ValueError) as error:  # requests' errors are OSErrors
            self._count(what, began, error)

    def _count(self, what: str, began: float, error: Exception | None = None) -> None:
        self.environment.events.request.fire(
            request_type="SSE",
            name=what,
            response_time=(time.perf_counter() - began) * 1000,
            response_length=0,
            exception=error,
            context={},
        )


def events_of(lines: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    """The documents of a stream (HTML standard, 9.2.6); without an id, none is of a job."""
    data, has_id = "", False
    for line in lines:
        if line.startswith(b"data:"):
            data += line[5:].decode()
        elif line.startswith(b"id:"):
            has_id = True
        elif not line:
            if data and has_id:
                yield json.loads(data)
            data, has_id = "", False
