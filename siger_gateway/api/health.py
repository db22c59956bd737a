"""``/health``: whether this gateway can do its work (draft-inadarei-api-health-check).

Two kinds of work are possible, proxying and jobs, and a gateway that can do one of them is still
worth its traffic: ``pass`` when everything works, ``warn`` (still 200) when part of it does not,
``fail`` (503) when nothing does. ``/health/ready`` is for load balancers and Consul: it fails also
while starting and draining. ``/health/live`` fails only when the process cannot answer at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from siger_gateway import __version__
from siger_gateway.api.handler import ApiHandler

CONTENT_TYPE = "application/health+json"


@dataclass(frozen=True, slots=True)
class Facts:
    """What health is judged by.

    :param services: name -> number of endpoints, of the services that routes point at.
    :param discovery_age: seconds since Consul last answered; None: Consul is not used.
    :param nats: whether the job queue is connected; None: no queue is configured.
    :param unhealthy: those of ``services`` whose endpoints all fail their health checks. They are
        still tried, so this alone is no reason to fail.
    """

    serving: bool
    draining: bool
    services: dict[str, int]
    discovery_age: float | None
    nats: bool | None
    unhealthy: tuple[str, ...] = ()


def judge(facts: Facts) -> tuple[str, dict[str, Any]]:
    """``pass``, ``warn`` or ``fail``, and the checks that say why."""
    empty = sorted(name for name, endpoints in facts.services.items() if not endpoints)
    checks: dict[str, Any] = {}
    works = []
    if facts.services:
        works.append(len(empty) < len(facts.services))
        faults = [
            f"{what}: {', '.join(sorted(names))}"
            for what, names in (("no endpoints", empty), ("none healthy", facts.unhealthy))
            if names
        ]
        checks["proxy:endpoints"] = [
            {
                "componentType": "component",
                "status": "fail" if not works[-1] else "warn" if faults else "pass",
                "observedValue": sum(facts.services.values()),
                "observedUnit": "endpoints",
                **({"output": "; ".join(faults)} if faults else {}),
            }
        ]
    if facts.nats is not None:
        works.append(facts.nats)
        checks["nats:connection"] = [
            {"componentType": "datastore", "status": "pass" if facts.nats else "fail"}
        ]
    if facts.discovery_age is not None:
        stale = facts.discovery_age > STALE_DISCOVERY
        checks["consul:age"] = [
            {
                "componentType": "component",
                "status": "warn" if stale else "pass",
                "observedValue": round(min(facts.discovery_age, 1e9), 1),
                "observedUnit": "s",
            }
        ]
    if works and not any(works):
        return "fail", checks
    statuses = {check[0]["status"] for check in checks.values()}
    return ("pass" if statuses <= {"pass"} else "warn"), checks


def is_ready(facts: Facts) -> bool:
    """Whether new requests should come here, as ``/health/ready`` says."""
    return facts.serving and not facts.draining and judge(facts)[0] != "fail"


STALE_DISCOVERY = 180.0
"""Seconds without an answer of Consul at which its check warns: three resyncs have failed."""


class HealthHandler(ApiHandler):
    """One of the three endpoints, by ``probe``: ``health``, ``live`` or ``ready``."""

    def initialize(self, probe: str, facts: Callable[[], Facts]) -> None:
        self._probe = probe
        self._facts = facts

    def get(self) -> None:
        facts = self._facts()
        status, checks = judge(facts)
        if self._probe == "live":
            status, checks = "pass", {}
        elif self._probe == "ready" and (facts.draining or not facts.serving):
            status = "fail"
            checks["gateway:state"] = [
                {"status": "fail", "output": "draining" if facts.draining else "starting"}
            ]
        document = {"status": status, "version": __version__, "checks": checks}
        self.set_status(503 if status == "fail" else 200)
        self.set_header("Content-Type", CONTENT_TYPE)
        self.finish(orjson.dumps(document))

    head = get
