"""``/openapi.json`` and the gateway agree: schemathesis makes up requests and finds nothing.

The event stream of a job that waits for a worker does not end, so ``/events`` has a run of its own,
in which there are no jobs. ``make campaign`` does all of it with ten times the requests.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.schemathesis_run import run_schemathesis

AUTH = (
    "auth: {jwt: {secret: q7Zr8vN1xYw5tBf7mLd0pHs9uCg2aEj4oRi6nTzXyVk}}\n"
    "jobs: {auth: required, rate_limit: {requests: 50, per: 1m}}\n"
)
LIMITED = "jobs: {rate_limit: {requests: 50, per: 1m}}\n"
MADE_UP = "--phases=examples,coverage,fuzzing"
EVENTS = "events$"


@pytest.mark.parametrize(
    ("config", "options", "cases"),
    [
        ("", [MADE_UP, f"--exclude-path-regex={EVENTS}", "--max-examples=50"], 300),
        ("", [MADE_UP, f"--include-path-regex={EVENTS}", "--max-examples=20"], 20),
        ("", ["--phases=stateful", f"--exclude-path-regex={EVENTS}", "--max-examples=30"], 50),
        (AUTH, ["--phases=coverage"], 50),
        (LIMITED, ["--phases=coverage", f"--exclude-path-regex={EVENTS}"], 50),
    ],
    ids=["made up", "events", "one after the other", "without credentials", "too many"],
)
async def test_every_answer_is_as_described(
    tmp_path: Path, config: str, options: list[str], cases: int
) -> None:
    run = await run_schemathesis(tmp_path, config, "--seed=1", *options, bound=120.0)
    assert run.code == 0, run.output
    assert run.cases >= cases
