"""``make audit``: is there a known vulnerability in the packages that the gateway brings along?

Asked is not what happens to be in .venv, where the development tools hold some packages back, but
what ``pip install 'siger-gateway[embedded,jwks]'`` would choose now. pip-audit asks PyPI's
advisories for each package and, when PyPI cannot tell, OSV. Both need the network. A package that
nobody could be asked about is a failure like a vulnerability: silence is not a good answer.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
EXTRAS = "embedded,jwks"
SERVICES = ("pypi", "osv")
TIMEOUT = 300.0
"""Seconds for pip, and for each of the services."""


def main() -> int:
    """The exit code: 0 nothing known, 1 vulnerabilities, 2 it could not be found out."""
    pins = resolve()
    print(f"{len(pins)} packages: {' '.join(pins)}")
    for service in SERVICES:
        report, trouble = ask(service, pins)
        code, text = verdict(report, pins)
        print(f"{service}: {text}", file=sys.stderr if code else sys.stdout)
        if code != 2:
            return code
        if trouble:
            print(f"  pip-audit says: {trouble}", file=sys.stderr)
    print("NOT AUDITED: no service could say anything about the packages.", file=sys.stderr)
    return 2


def resolve() -> list[str]:
    """``name==version`` of everything that a user gets, but for the gateway itself."""
    command = [
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"),
        *("--dry-run", "--ignore-installed", "--report", "-", f"{ROOT}[{EXTRAS}]"),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT, check=True)
    chosen = json.loads(done.stdout)["install"]
    named = [one["metadata"] for one in chosen if not one["is_direct"]]
    return sorted(f"{normal(one['name'])}=={one['version']}" for one in named)


def normal(name: str) -> str:
    """The one form of a package's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def ask(service: str, pins: list[str]) -> tuple[dict[str, Any] | None, str]:
    """pip-audit's report, None if there is none, and the last line of what it complained of."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "requirements.txt"
        wanted.write_text("\n".join(pins) + "\n")
        command = [
            *(sys.executable, "-m", "pip_audit", "--progress-spinner", "off", "--format", "json"),
            *("--no-deps", "--disable-pip", "--vulnerability-service", service),
            *("--requirement", str(wanted)),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    complaint = done.stderr.strip().rpartition("\n")[2]
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        return None, complaint
    return report, complaint


def verdict(report: dict[str, Any] | None, pins: list[str]) -> tuple[int, str]:
    """The exit code, see ``main``, and a line that says why."""
    if report is None:
        return 2, "cannot be reached"
    known = {normal(one["name"]): one for one in report["dependencies"]}
    found = [
        f"{one['name']} {one['version']}: {flaw['id']} {' '.join(flaw.get('aliases', ()))}, "
        f"fixed in {', '.join(flaw.get('fix_versions', ())) or 'no version'}"
        for one in known.values()
        for flaw in one.get("vulns", ())
    ]
    if found:
        return 1, "VULNERABLE\n  " + "\n  ".join(found)
    names = [pin.partition("==")[0] for pin in pins]
    silent = [name for name in names if "vulns" not in known.get(name, {})]
    if silent:
        return 2, f"knows nothing about {len(silent)} of {len(pins)} packages: {' '.join(silent)}"
    return 0, f"no known vulnerability in {len(pins)} packages"


if __name__ == "__main__":
    sys.exit(main())
