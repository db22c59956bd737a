"""The load: one run of ``wrk`` with the requests of requests.lua, and where ``wrk`` comes from."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import Children

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent / ".cache" / "wrk"
PACKAGES = ("wrk", "libluajit-5.1-2", "libluajit-5.1-common")
"""Debian's wrk and the libraries of it that a machine with Python is likely to lack."""

TIMEOUT = 10
"""Seconds after which a request without an answer is an error: behind 10,000 others it waits."""

GRACE = 10.0
"""Seconds that wrk may take beyond its duration before it counts as stuck."""


class NoWrk(Exception):
    """There is no ``wrk`` on this machine and none could be had."""


@dataclass(frozen=True, slots=True)
class Wrk:
    """A ``wrk`` that runs, with the environment that it needs for that."""

    binary: Path
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What one run of the load saw."""

    requests: int
    seconds: float
    p50_us: float
    p99_us: float
    errors: int
    """Statuses of 400 and above, and connections that failed, broke or timed out."""


def find_wrk() -> Wrk:
    """``wrk`` from PATH, from Debian as root, or unpacked into .cache. Raises NoWrk."""
    on_path = shutil.which("wrk")
    if on_path is None and shutil.which("apt-get"):
        if os.geteuid() == 0:
            _apt_install()
            on_path = shutil.which("wrk")
        elif not (CACHE / "usr/bin/wrk").exists():
            _unpack_packages()
    if on_path is not None:
        return Wrk(Path(on_path), dict(os.environ))
    unpacked = CACHE / "usr/bin/wrk"
    if unpacked.exists():
        libraries = ":".join(str(path) for path in sorted((CACHE / "usr/lib").glob("*-linux-*")))
        return Wrk(unpacked, {**os.environ, "LD_LIBRARY_PATH": libraries})
    raise NoWrk("the load generator wrk is missing; on Debian or Ubuntu: apt-get install wrk")


def _apt_install() -> None:
    install = ["apt-get", "install", "-qq", "-y", "wrk"]
    if subprocess.run(install, capture_output=True, check=False).returncode != 0:
        subprocess.run(["apt-get", "update", "-qq"], capture_output=True, check=False)
        subprocess.run(install, capture_output=True, check=False)


def _unpack_packages() -> None:
    """`dpkg -x` needs no root, only the package files."""
    CACHE.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["apt-get", "download", "-qq", *PACKAGES], cwd=CACHE, capture_output=True, check=False
    )
    for package in CACHE.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, CACHE], check=False)


def run_load(
    children: Children,
    wrk: Wrk,
    *,
    port: int,
    connections: int,
    seconds: int,
    core: int,
    script: str = "requests.lua",
    scheme: str = "http",
) -> LoadResult:
    """Load ``127.0.0.1:port`` from ``core``; returns when the load has ended.

    :param script: a file beside this one that makes the requests.
    """
    child = children.start(
        "wrk",
        [
            wrk.binary,
            "--threads=1",
            f"--connections={connections}",
            f"--duration={seconds}s",
            f"--timeout={TIMEOUT}s",
            f"--script={HERE / script}",
            f"{scheme}://127.0.0.1:{port}",
        ],
        core=core,
        environment=wrk.environment,
    )
    found = child.result(seconds + GRACE)
    return LoadResult(
        requests=found["requests"],
        seconds=found["duration"],
        p50_us=found["p50"],
        p99_us=found["p99"],
        errors=found["status_errors"] + found["socket_errors"],
    )
