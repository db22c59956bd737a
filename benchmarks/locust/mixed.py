"""All users together, by their weights: ``locust -f benchmarks/locust/mixed.py``."""

from __future__ import annotations

from benchmarks.locust.events import EventUser
from benchmarks.locust.jobs import JobUser
from benchmarks.locust.proxy import ProxyUser

__all__ = ["EventUser", "JobUser", "ProxyUser"]
