"""The load suites: a healthy deployment passes, a broken threshold shows in the exit code."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BOUND = 60
"""Seconds for a run of two, with the start of a gateway, on a busy machine."""

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("locust") is None, reason="locust is not installed (extras dev, bench)"
)


async def run_locust(tmp_path: Path, *more: str) -> tuple[int, str]:
    """Two seconds of the mixed profile against a dev gateway of its own: exit code and output."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.locust", "--seconds=2", "--users=6"),
        f"--report={tmp_path / 'report.html'}",
        *more,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(BOUND):
        printed, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, printed.decode()


async def test_a_healthy_deployment_keeps_the_thresholds(tmp_path: Path) -> None:
    code, printed = await run_locust(tmp_path, "--max-error-share=0", "--min-rate=1")
    assert code == 0, printed
    assert "all thresholds are kept" in printed
    for name in ("/api/v1/users/{n}", "/api/v1/jobs/{id}/events", "SSE", "DELETE"):
        assert name in printed
    assert "<html" in (tmp_path / "report.html").read_text()


async def test_a_broken_threshold_is_the_exit_code(tmp_path: Path) -> None:
    code, printed = await run_locust(tmp_path, "--profile=proxy", "--min-rate=1000000")
    assert code == 1, printed
    assert "threshold broken" in printed


async def test_errors_above_the_threshold_are_the_exit_code(tmp_path: Path) -> None:
    """The gateway answers 404 there."""
    code, printed = await run_locust(tmp_path, "--profile=proxy", "--paths=/nothing/{n}")
    assert code == 1, printed
    assert "100.00% errors" in printed
