"""Siger itself: as it is and, after ``make compiled``, compiled."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from benchmarks.contenders.contender import Contender, Duty
from benchmarks.processes import Child
from benchmarks.servers import POLICY, Setup, builds, siger

NOTE = "JWT verified and remembered, limit by user, JSON access log, trace context"


def sigers() -> list[Contender]:
    """One or two."""
    return [
        Contender(name, partial(_start, name, code), note=NOTE, verifies=True)
        for name, code in builds().items()
    ]


def _start(name: str, code: Path, setup: Setup, port: int, duty: Duty) -> Child:
    policy: dict[str, object] = POLICY if duty is Duty.POLICIES else {}
    log = setup.children.directory / f"{name}.log" if duty is Duty.POLICIES else None
    tls = {"cert": str(setup.certificate), "min_version": "1.3"} if duty is Duty.TLS else {}
    return siger(name, policy, log, setup, port, prefix="/", code=code, tls=tls)
