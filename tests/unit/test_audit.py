"""What ``make audit`` makes of pip-audit's reports: there "none found" may mean "none asked"."""

from __future__ import annotations

from typing import Any

from tests.audit import verdict

PINS = ["pyjwt==2.10.0", "prometheus-client==0.26.0"]
GOOD: dict[str, Any] = {"name": "pyjwt", "version": "2.10.0", "vulns": []}
OTHER: dict[str, Any] = {"name": "prometheus_client", "version": "0.26.0", "vulns": []}


def test_nothing_is_known_about_any_package() -> None:
    code, text = verdict({"dependencies": [GOOD, OTHER]}, PINS)
    assert (code, text) == (0, "no known vulnerability in 2 packages")


def test_a_vulnerability_is_named_with_its_remedy() -> None:
    flaw = {"id": "PYSEC-1", "aliases": ["CVE-2024-53861"], "fix_versions": ["2.10.1"]}
    code, text = verdict({"dependencies": [{**GOOD, "vulns": [flaw]}, OTHER]}, PINS)
    assert code == 1
    assert "pyjwt 2.10.0: PYSEC-1 CVE-2024-53861, fixed in 2.10.1" in text


def test_a_package_that_was_skipped_is_not_audited() -> None:
    skipped = {"name": "pyjwt", "skip_reason": "Dependency not found on PyPI"}
    assert verdict({"dependencies": [skipped, OTHER]}, PINS) == (
        2,
        "knows nothing about 1 of 2 packages: pyjwt",
    )


def test_a_package_that_is_missing_is_not_audited() -> None:
    assert verdict({"dependencies": [OTHER]}, PINS)[0] == 2


def test_no_report_is_no_audit() -> None:
    assert verdict(None, PINS)[0] == 2


def test_what_is_vulnerable_counts_even_if_others_were_skipped() -> None:
    flawed = {**GOOD, "vulns": [{"id": "PYSEC-1"}]}
    assert verdict({"dependencies": [flawed]}, PINS)[0] == 1
