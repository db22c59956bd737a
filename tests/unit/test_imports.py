"""What a gateway loads to start: every module costs time and memory, also where nobody uses it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from siger_gateway.deferred import defer

IMPORT_GATEWAY = "import siger_gateway.cli, siger_gateway.gateway"


def modules_after(statement: str) -> set[str]:
    """Names of the modules that have run in a fresh interpreter, packages and submodules."""
    program = f"""{statement}
import json, sys
from siger_gateway.deferred import Deferred
print(json.dumps([name for name, one in sys.modules.items() if not isinstance(one, Deferred)]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return set(json.loads(done.stdout))


def test_the_gateway_starts_without_second_http_clients() -> None:
    loaded = modules_after(IMPORT_GATEWAY)
    assert "nats.aio.client" in loaded
    assert "consul.base" in loaded
    assert loaded.isdisjoint({"aiohttp", "requests", "urllib3", "consul", "consul.std"})


def test_serve_starts_without_the_parts_of_other_commands() -> None:
    loaded = modules_after(IMPORT_GATEWAY)
    assert loaded.isdisjoint({"siger_gateway.dev", "siger_gateway.jobs.worker"})


def test_the_gateway_starts_without_token_and_certificate_libraries() -> None:
    assert modules_after(IMPORT_GATEWAY).isdisjoint({"jwt", "cryptography", "pycurl"})


def test_the_gateway_starts_without_protobuf() -> None:
    assert not [name for name in modules_after(IMPORT_GATEWAY) if name.startswith("google")]


def test_looking_at_the_configuration_takes_no_gateway() -> None:
    loaded = modules_after("import siger_gateway.cli")
    assert loaded.isdisjoint({"siger_gateway.gateway", "nats", "tornado.web", "consul.base"})


def test_a_deferred_package_is_whole_when_it_is_used() -> None:
    loaded = modules_after("import siger_gateway.discovery, consul; consul.Consul")
    assert {"consul", "consul.std", "requests"} <= loaded


def test_a_module_runs_once_and_on_first_use(tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text("import sys\nsys.runs_of_late += 1\nanswer = 42\n")
    program = f"""
import sys
sys.runs_of_late = 0
sys.path.insert(0, {str(tmp_path)!r})
from siger_gateway.deferred import defer
defer("late", "nowhere_to_be_found")
import late
assert sys.runs_of_late == 0
from late import answer
assert (late.answer, answer, sys.runs_of_late) == (42, 42, 1)
assert "nowhere_to_be_found" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_module_that_has_run_is_left_as_it_is() -> None:
    before = sys.modules["json"]
    defer("json")
    assert sys.modules["json"] is before is json
