"""schemathesis with ten times as many requests as in ``tests/integration``, others in every run."""

from __future__ import annotations

from pathlib import Path

from tests.campaign.conftest import Tell
from tests.schemathesis_run import run_schemathesis

EXAMPLES = 500


async def test_schemathesis_finds_nothing(tmp_path: Path, tell: Tell) -> None:
    options = (f"--max-examples={EXAMPLES}", "--exclude-path-regex=events$")
    run = await run_schemathesis(tmp_path, "", *options, bound=900.0)
    assert run.code == 0, run.output
    tell(f"{run.cases} requests made up: no findings")
