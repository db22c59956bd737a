"""Jobs: submit, poll, cancel, list: ``locust -f benchmarks/locust/jobs.py``.

What is submitted is cancelled in the end, so that a deployment is not left with a long queue.
"""

from __future__ import annotations

from locust import FastHttpUser, between, task

from benchmarks.locust.settings import credentials

JOBS = "/api/v1/jobs"
ONE = f"{JOBS}/{{id}}"
"""Under which name Locust counts the requests about one job."""
POLLS = 3


class JobUser(FastHttpUser):
    """Somebody who submits jobs and looks how they do."""

    weight = 3
    wait_time = between(0.05, 0.2)

    def on_start(self) -> None:
        self._headers = credentials(self.environment.parsed_options)

    @task(3)
    def submit_poll_and_cancel(self) -> None:
        place = self.submit()
        if place is None:
            return
        etag = ""
        for _ in range(POLLS):
            headers = {**self._headers, "If-None-Match": etag} if etag else self._headers
            with self.client.get(place, headers=headers, name=ONE, catch_response=True) as answer:
                if answer.status_code not in (200, 304):
                    answer.failure(f"status {answer.status_code}")
                etag = answer.headers.get("ETag") or etag if answer.headers else etag
        self.cancel(place)

    @task(1)
    def list(self) -> None:
        self.client.get(f"{JOBS}?limit=20", headers=self._headers, name=f"{JOBS}?limit")

    def submit(self) -> str | None:
        """The path of a new job; None if there is none."""
        body = {
            "type": self.environment.parsed_options.job_type,
            "name": "load",
            "tags": ["locust"],
            "params": {"model": "bert-base", "epochs": 3},
        }
        with self.client.post(
            JOBS, json=body, headers=self._headers, name=JOBS, catch_response=True
        ) as answer:
            if answer.status_code != 202:
                answer.failure(f"status {answer.status_code}")
                return None
            return f"{JOBS}/{answer.json()['job_id']}"

    def cancel(self, place: str) -> None:
        """A job that has ended meanwhile (409) is no error."""
        with self.client.delete(
            place, headers=self._headers, name=ONE, catch_response=True
        ) as answer:
            if answer.status_code in (202, 409):
                answer.success()
            else:
                answer.failure(f"status {answer.status_code}")
