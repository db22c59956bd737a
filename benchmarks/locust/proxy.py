"""Requests that the gateway forwards to services: ``locust -f benchmarks/locust/proxy.py``."""

from __future__ import annotations

import random

from locust import FastHttpUser, between, task

from benchmarks.locust.settings import credentials

NUMBERS = 1000
"""Values of ``{n}`` in a path: as many resources are asked for."""


class ProxyUser(FastHttpUser):
    """A client of the services behind the gateway; no think time worth the name."""

    weight = 6
    wait_time = between(0.0, 0.05)

    def on_start(self) -> None:
        options = self.environment.parsed_options
        self._headers = credentials(options)
        self._paths = [path.strip() for path in options.paths.split(",") if path.strip()]

    @task
    def get(self) -> None:
        pattern = random.choice(self._paths)
        path = pattern.replace("{n}", str(random.randrange(NUMBERS)))
        self.client.get(path, headers=self._headers, name=pattern)
