"""HTTP/2 by the tools that people have: curl, nghttp, h2load, a browser. Skipped where one is not
there and tests/install_servers.py cannot install it; the protocol itself is tested without them."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.certificates import NAME, Authority
from tests.conftest import Serve, Services
from tests.install_servers import BROWSERS
from tests.running import RunningGateway, Served, Upstream, answer_ok

TOOL_BOUND = 60.0
"""Seconds; a browser takes some to start."""

PAGE = b"""<!doctype html><title>t</title><pre id=out>waiting</pre><script>
async function one(number) {
  const answer = await fetch("/n/" + number);
  if (await answer.text() != "/n/" + number) throw new Error("a wrong answer");
}
Promise.all([...Array(200).keys()].map(one)).then(
  () => {
    const all = performance.getEntriesByType("resource").filter(one => one.name.includes("/n/"));
    const spoken = [...new Set(all.map(one => one.nextHopProtocol))];
    document.getElementById("out").textContent = "fetched " + all.length + " by " + spoken;
  },
  error => document.getElementById("out").textContent = "failed: " + error);
</script>"""


def needed(*names: str) -> str:
    """The first of the tools that there is; skips the test when there is none."""
    for name in names:
        path = shutil.which(name)
        if path is not None:
            return path
    pytest.skip(f"{names[0]} is not installed")


def curl() -> str:
    path = needed("curl")
    shown = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
    if "HTTP2" not in shown.stdout:
        pytest.skip("curl has no HTTP/2")
    return path


async def run(*command: str) -> str:
    """What it prints; fails when it fails."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(TOOL_BOUND):
            printed, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        raise
    assert process.returncode == 0, errors.decode()
    return printed.decode()


def config(upstream: Upstream, rest: str = "") -> str:
    return (
        'consul_address: ""\nnats_address: ""\n'
        f'services: {{s: {{endpoints: ["{upstream.address}"]}}}}\n'
        f"routes: [{{name: r, match: {{path_prefix: /}}, service: s}}]\n{rest}"
    )


async def secure(
    serve: Serve, upstream: Upstream, folder: Path
) -> tuple[RunningGateway, Authority]:
    authority = Authority(folder)
    cert, key = authority.issue("server", NAME, "localhost")
    gateway = await serve(config(upstream, f"tls: {{cert: {cert}, key: {key}}}\n"))
    gateway.tls = authority.client()
    return gateway, authority


async def answer_path(upstream: Upstream, served: Served) -> None:
    path = served.line.split()[1]
    if path == "/":
        await served.ok(PAGE, b"Content-Type: text/html")
    else:
        await served.ok(path.encode())


async def answer_length(upstream: Upstream, served: Served) -> None:
    await served.ok(b"%d" % len(await served.body()))


async def test_curl_by_prior_knowledge(serve: Serve, services: Services, tmp_path: Path) -> None:
    tool = curl()
    (upstream,) = await services(answer_length)
    gateway = await serve(config(upstream))
    body = tmp_path / "body"
    body.write_bytes(bytes(3 << 20))
    printed = await run(
        *(tool, "-sS", "--http2-prior-knowledge", "--data-binary", f"@{body}"),
        *("-w", "\n%{http_version} %{response_code}", f"http://127.0.0.1:{gateway.port}/"),
    )
    assert printed.split("\n") == [str(3 << 20), "2 200"]


async def test_curl_over_tls(serve: Serve, services: Services, tmp_path: Path) -> None:
    tool = curl()
    (upstream,) = await services(answer_ok)
    gateway, authority = await secure(serve, upstream, tmp_path)
    where = f"{NAME}:{gateway.port}"
    for flag, version in (("--http2", "2"), ("--http1.1", "1.1")):
        printed = await run(
            *(tool, "-sS", flag, "--cacert", str(authority.file)),
            *("--resolve", f"{where}:127.0.0.1", "--noproxy", "*"),
            *("-w", "\n%{http_version} %{response_code}", f"https://{where}/"),
        )
        assert printed.split("\n") == [str(upstream.port), f"{version} 200"]


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_nghttp(serve: Serve, services: Services, tmp_path: Path, scheme: str) -> None:
    tool = needed("nghttp")
    (upstream,) = await services(answer_path)
    if scheme == "https":
        gateway, _ = await secure(serve, upstream, tmp_path)
    else:
        gateway = await serve(config(upstream))
    urls = [f"{scheme}://127.0.0.1:{gateway.port}/{number}" for number in range(20)]
    printed = await run(tool, "--no-verify-peer", *urls)
    found = re.findall(r"/\d+", printed)
    assert sorted(found) == sorted(f"/{number}" for number in range(20))


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_h2load(serve: Serve, services: Services, tmp_path: Path, scheme: str) -> None:
    tool = needed("h2load")
    (upstream,) = await services(answer_ok)
    if scheme == "https":
        gateway, _ = await secure(serve, upstream, tmp_path)
    else:
        gateway = await serve(config(upstream))
    url = f"{scheme}://127.0.0.1:{gateway.port}/"
    printed = await run(tool, "-n", "1000", "-c", "4", "-m", "32", url)
    assert "1000 succeeded, 0 failed, 0 errored, 0 timeout" in printed
    assert "1000 2xx" in printed
    assert len(upstream.served) == 1000


def browser_command(path: str, folder: Path, url: str) -> Sequence[str]:
    return (
        *(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        *("--ignore-certificate-errors", "--no-proxy-server", f"--user-data-dir={folder}"),
        *("--disable-background-networking", "--virtual-time-budget=20000", "--dump-dom", url),
    )


async def test_a_browser_fetches_two_hundred_things_at_once(
    serve: Serve, services: Services, tmp_path: Path
) -> None:
    tool = needed(*BROWSERS)
    (upstream,) = await services(answer_path)
    gateway, _ = await secure(serve, upstream, tmp_path)
    url = f"https://localhost:{gateway.port}/"
    printed = await run(*browser_command(tool, tmp_path / "browser", url))
    found = re.search(r"<pre id=\"out\">(.*?)</pre>", printed)
    assert found is not None, printed
    assert found[1] == "fetched 200 by h2"
    lines = [one for one in gateway.access_log.read_text().splitlines() if '"/n/' in one]
    assert len(lines) == 200
