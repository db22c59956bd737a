"""The gateway as the image runs it: user 10001, nothing writable but ``data_dir``.

``docker run --read-only`` without docker: a mount namespace of its own, in which every file system
but ``data_dir`` is read-only. That takes root; anybody else gets what there is without: a working
directory that cannot be written to.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.conftest import Services
from tests.consul_server import ConsulServer
from tests.running import RunningGateway, answer_ok, eventually

USER = 10001
"""As in the Dockerfile."""
# It may read all: the interpreter may stand in root's home. It may write what 10001 may.
AS_USER = (
    *("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs"),
    *("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"),
)
READ_ONLY = """
mount --make-rprivate /
mount --bind {data} {data}
for target in $(findmnt --noheadings --raw --output TARGET --types ext4,xfs,btrfs,overlay,tmpfs); do
    [ "$target" = {data} ] || mount --options remount,bind,ro "$target"
done
exec "$@"
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """Beyond pytest's own folders, which only their owner may enter."""
    with tempfile.TemporaryDirectory(prefix="siger-confined-") as name:
        folder = Path(name)
        (folder / "data").mkdir()
        yield folder
        folder.chmod(0o755)


@pytest.fixture
async def gateway(folder: Path) -> AsyncIterator[RunningGateway]:
    gateway = RunningGateway(folder, "")
    gateway.access_log = folder / "data" / "access.log"
    yield gateway
    await gateway.stop()


def confine(gateway: RunningGateway) -> None:
    """From now on it is somebody else, and only ``data`` can be written to."""
    data = gateway.folder / "data"
    gateway.cwd = gateway.folder
    if os.geteuid() == 0:
        os.chown(data, USER, USER)
        gateway.wrapper = AS_USER
    if may_mount():
        script = "set -e\n" + READ_ONLY.format(data=shlex.quote(str(data)))
        gateway.wrapper = ("unshare", "--mount", "sh", "-c", script, "sh", *AS_USER)
    gateway.folder.chmod(0o555)


def may_mount() -> bool:
    """Whether there can be a mount namespace: root may be without the right, as in containers."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    trial = ["unshare", "--mount", "mount", "--make-rprivate", "/"]
    return subprocess.run(trial, capture_output=True, check=False).returncode == 0


def assert_confined(gateway: RunningGateway) -> None:
    """That the wrapper did what it is for (proc(5): status, mountinfo)."""
    proc = Path(f"/proc/{gateway.pid}")
    if os.geteuid() == 0:
        status = (proc / "status").read_text()
        assert f"Uid:\t{USER}\t{USER}\t{USER}\t{USER}\n" in status
        assert "NoNewPrivs:\t1\n" in status
    if may_mount():
        mounts = [line.split() for line in (proc / "mountinfo").read_text().splitlines()]
        options = {fields[4]: fields[5].split(",") for fields in mounts}
        assert "ro" in options["/"]
        assert "rw" in options[str(gateway.folder / "data")]


async def test_it_serves_with_nothing_writable_but_its_data(
    gateway: RunningGateway, services: Services
) -> None:
    (upstream,) = await services(answer_ok)
    with ConsulServer() as consul:
        consul.register("users", "users-1", port=upstream.port)
        gateway.write_config(
            f'consul_address: "{consul.address}"\nnats_address: ""\n'
            "services: {users: {consul: users}}\n"
            "routes: [{name: r, match: {path_prefix: /}, service: users}]\n"
        )
        confine(gateway)
        await gateway.start()
        assert_confined(gateway)

        async def proxied() -> bool:
            return (await gateway.get("/")).status == 200

        await eventually(proxied)
        snapshot = gateway.folder / "data" / "discovery.json"

        async def saved() -> bool:
            return snapshot.exists()

        await eventually(saved)
        gateway.send(signal.SIGTERM)
        assert await gateway.wait() == 0
    assert [line for line in gateway.lines if line.get("level") == "error"] == []
    names = {path.name for path in gateway.folder.iterdir()}
    assert names == {"data", "gateway.yaml"}


async def test_without_a_file_it_serves_by_defaults_and_says_so(gateway: RunningGateway) -> None:
    gateway.config_path = gateway.folder / "missing" / "config.yaml"
    confine(gateway)
    gateway.wrapper = (
        *gateway.wrapper,
        *("env", "SIGER_PORT=127.0.0.1:0", "SIGER_CONSUL_ADDRESS=", "SIGER_NATS_ADDRESS="),
    )
    await gateway.start()
    assert gateway.lines[0]["message"].startswith(
        f"no configuration at {gateway.config_path}: and a default one cannot be written: "
    )
    assert (await gateway.get("/health/live")).status == 200
