"""A gateway's life: start, reload, drain, and what it says when it cannot start."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Serve, Services
from tests.running import BOUND, RunningGateway, Served, Upstream, answer_ok, eventually

REQUESTS = 10_000
CLIENTS = 50


def routed(upstream: Upstream, rest: str = "") -> str:
    return (
        'consul_address: ""\nnats_address: ""\n'
        f'services: {{s: {{endpoints: ["{upstream.address}"]}}}}\n'
        f"routes: [{{name: r, match: {{path_prefix: /}}, service: s}}]\n{rest}"
    )


async def test_no_accepted_request_is_lost_in_a_shutdown(serve: Serve, services: Services) -> None:
    (upstream,) = await services(answer_ok)
    old = await serve(routed(upstream))
    new = await serve(routed(upstream))
    left = REQUESTS
    refused = 0

    async def client(number: int) -> int:
        """Sends one request after the other, from the old gateway until it takes no more."""
        nonlocal left, refused
        gateway, answered = old, 0
        while left > 0:
            try:
                connecting = gateway.connect()
                connection = await connecting.__aenter__()
            except ConnectionRefusedError:  # never accepted: an honest no
                refused += 1
                gateway = new
                continue
            try:
                while left > 0:
                    left -= 1
                    if left == REQUESTS // 2:
                        old.send(signal.SIGTERM)
                    answer = await connection.request("GET /")
                    assert answer.status == 200
                    answered += 1
                    if answer.headers.get("connection") == "close":
                        break
            finally:
                await connecting.__aexit__(None, None, None)
        return answered

    assert sum(await asyncio.gather(*map(client, range(CLIENTS)))) == REQUESTS
    assert refused
    assert await old.wait() == 0


async def test_a_drain_waits_for_the_response_in_flight(serve: Serve, services: Services) -> None:
    go_on = asyncio.Event()

    async def script(upstream: Upstream, served: Served) -> None:
        await served.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        await go_on.wait()
        await served.send(b"cd")

    (upstream,) = await services(script)
    gateway = await serve(routed(upstream))
    async with gateway.connect() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.head()
        gateway.send(signal.SIGTERM)
        await gateway.line("draining")
        go_on.set()
        assert await client.reader.readexactly(4) == b"abcd"
        assert await client.at_eof()
    assert await gateway.wait() == 0


async def test_a_second_signal_ends_a_drain_at_once(serve: Serve, services: Services) -> None:
    async def script(upstream: Upstream, served: Served) -> None:
        await served.reader.read()

    (upstream,) = await services(script)
    gateway = await serve(routed(upstream))
    async with gateway.connect() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")

        async def arrived() -> bool:
            return bool(upstream.served)

        await eventually(arrived)
        gateway.send(signal.SIGTERM)
        await gateway.line("draining")
        gateway.send(signal.SIGTERM)
        assert await gateway.wait() == 1


async def test_ready_fails_while_draining_and_live_does_not(
    serve: Serve, services: Services
) -> None:
    (upstream,) = await services(answer_ok)
    gateway = await serve(routed(upstream))
    async with gateway.connect() as first, gateway.connect() as second:
        for client in (first, second):
            assert (await client.request("GET /health/ready")).status == 200
        gateway.send(signal.SIGTERM)
        await gateway.line("draining")
        assert (await first.request("GET /health/ready")).status == 503
        assert (await second.request("GET /health/live")).status == 200
    assert await gateway.wait() == 0


async def test_health_fails_when_no_service_has_an_endpoint(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nothing:
        gateway = await serve(
            f'consul_address: "127.0.0.1:{nothing.getsockname()[1]}"\nnats_address: ""\n'
            "services: {s: {consul: s}}\n"
            "routes: [{name: r, match: {path_prefix: /}, service: s}]\n"
        )
        answer = await gateway.get("/health")
        assert (answer.status, answer.json["status"]) == (503, "fail")
        assert answer.headers["content-type"] == "application/health+json"
        answer = await gateway.get("/x")
        assert (answer.status, answer.json["reason"]) == (503, "no_endpoints")
        assert (await gateway.get("/health/live")).status == 200


async def test_a_reload_takes_the_new_routes_and_cuts_nothing(
    serve: Serve, services: Services
) -> None:
    go_on = asyncio.Event()

    async def slow(upstream: Upstream, served: Served) -> None:
        await served.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        await go_on.wait()
        await served.send(b"cd")

    before, after = await services(slow, answer_ok)
    gateway = await serve(routed(before))
    async with gateway.connect() as streaming, gateway.connect() as kept:
        await kept.request("GET /health")
        await streaming.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await streaming.head()
        gateway.write_config(routed(after))
        assert (await gateway.reload())["message"] == "reloaded"
        assert (await kept.request("GET /")).body == b"%d" % after.port
        go_on.set()
        assert await streaming.reader.readexactly(4) == b"abcd"
    assert await gateway.metric('siger_config_reloads_total{outcome="ok"}') == 1


async def test_a_reload_of_its_service_does_not_fail_an_exchange_that_has_begun(
    serve: Serve, services: Services
) -> None:
    """One awaits its body, one a connection, and one breaks off and needs another endpoint."""
    go_on = asyncio.Event()
    broken: list[Upstream] = []

    async def slow(upstream: Upstream, served: Served) -> None:
        await go_on.wait()
        if served.line.startswith("GET /broken") and not broken:
            broken.append(upstream)
            raise EOFError
        await served.body()
        await served.ok()

    first, second = await services(slow, slow)
    both = f'"{first.address}", "{second.address}"'
    before = routed(first).replace(f'"{first.address}"', both)
    before = before.replace("endpoints:", "pool: {max_connections: 1}, endpoints:")
    gateway = await serve(before)

    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(gateway.connect()) for _ in range(4)]
        await clients[0].send(b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
        asked = [
            asyncio.create_task(client.request(f"GET /{path}"))
            for client, path in zip(clients[1:], ("broken", "waits", "waits"), strict=True)
        ]
        await eventually(lambda: gateway.in_flight(4))
        gateway.write_config(before.replace("endpoints:", "balance: p2c, endpoints:"))
        assert (await gateway.reload())["message"] == "reloaded"
        go_on.set()
        await clients[0].send(b"cd")
        answers = [await clients[0].answer(), *(await asyncio.gather(*asked))]
    assert [answer.status for answer in answers] == [200] * 4


async def test_a_bad_configuration_never_replaces_a_running_one(
    serve: Serve, services: Services
) -> None:
    (upstream,) = await services(answer_ok)
    gateway = await serve(routed(upstream))
    gateway.write_config(routed(upstream, "routess: []\n"))
    refused = await gateway.reload()
    assert "routess: unknown key" in refused["problem"]
    assert str(gateway.config_path) in refused["problem"]
    assert (await gateway.get("/")).status == 200
    assert await gateway.metric('siger_config_reloads_total{outcome="refused"}') == 1


async def test_an_access_log_that_cannot_be_opened_is_no_reason_to_change_anything(
    serve: Serve, services: Services
) -> None:
    before, after = await services(answer_ok, answer_ok)
    gateway = await serve(routed(before))
    log = gateway.access_log
    gateway.access_log = gateway.folder / "nowhere" / "access.log"
    gateway.write_config(routed(after))
    refused = await gateway.reload()
    assert str(gateway.access_log) in refused["problem"]
    answer = await gateway.get("/")
    assert answer.body == b"%d" % before.port
    gateway.access_log = log
    assert (await gateway.access(answer.headers["x-request-id"]))["status"] == 200
    assert await gateway.metric('siger_config_reloads_total{outcome="refused"}') == 1


async def test_a_log_whose_folder_is_gone_ends_up_in_no_connection(
    serve: Serve, services: Services
) -> None:
    (upstream,) = await services(answer_ok)
    gateway = await serve(routed(upstream))
    gateway.access_log = gateway.folder / "logs" / "access.log"
    gateway.access_log.parent.mkdir()
    gateway.write_config(routed(upstream))
    assert (await gateway.reload())["message"] == "reloaded"
    gateway.access_log.unlink()
    gateway.access_log.parent.rmdir()
    assert (await gateway.reload())["message"] == "reloaded"
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(gateway.connect()) for _ in range(8)]
        for client in clients * 100:  # more lines than wait before they are written
            assert (await client.request("GET /")).body == b"%d" % upstream.port


async def test_requests_behind_the_last_one_of_a_connection_are_not_acted_on(
    serve: Serve, services: Services
) -> None:
    (upstream,) = await services(answer_ok)
    gateway = await serve(routed(upstream))
    async with gateway.connect() as client, gateway.connect() as other:
        await client.request("GET /")  # now there is a connection on which more could be sent
        await other.request("GET /health/live")
        gateway.send(signal.SIGTERM)
        await gateway.line("draining")
        # The first is answered at once, with the last response that this connection will see.
        request = b" HTTP/1.1\r\nHost: a\r\n\r\n"
        await client.send(b"GET /.." + request + b"DELETE /thing" + request)
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (400, "close")
        assert await client.at_eof()
    assert await gateway.wait() == 0
    assert [served.line for served in upstream.served] == ["GET / HTTP/1.1"]


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "siger_gateway", *arguments],
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
        cwd=cwd,
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port: [\n", ":2:1: not valid YAML"),
        ("prot: 1\n", ':1:1: prot: unknown key; did you mean "port"?'),
        ("limits: {body: lots}\n", ":1:16: limits.body: expected a size"),
        ("tracing: {sample: 1}\n", ":1:1: tracing: not supported yet"),
        ("tls: {cert: c, key: k}\n", ":1:13: tls.cert: c: there is no such file"),
    ],
)
def test_a_bad_configuration_is_named_with_file_and_line(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    for command in ("serve", "check", "routes"):
        done = run(command, "--config", str(path))
        assert done.returncode == 2
        assert f"{path}{said}" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_port_in_use_is_said_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        path = tmp_path / "c.yaml"
        path.write_text(f'port: "127.0.0.1:{port}"\nconsul_address: ""\nnats_address: ""\n')
        done = run("serve", "--config", str(path))
    assert done.returncode == 1
    line = json.loads(done.stderr.splitlines()[-1])
    assert (line["message"], line["port"]) == ("cannot listen", f"127.0.0.1:{port}")
    assert "in use" in line["error"]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("path", ["{tmp}", "{tmp}/nowhere/access.log"])
def test_an_access_log_that_cannot_be_opened_is_said_so(tmp_path: Path, path: str) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(
        f'port: "127.0.0.1:0"\nconsul_address: ""\nnats_address: ""\n'
        f"access_log: {{path: {path.format(tmp=tmp_path)}}}\n"
    )
    done = run("serve", "--config", str(config))
    assert done.returncode == 1
    line = json.loads(done.stderr)
    assert line["message"] == "cannot open a file"
    assert str(tmp_path) in line["error"]


async def test_without_a_configuration_a_default_one_is_written_and_served(
    tmp_path: Path,
) -> None:
    gateway = RunningGateway(tmp_path, "")
    gateway.config_path = tmp_path / "new" / "config.yaml"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "siger_gateway",
        "serve",
        "--config",
        str(gateway.config_path),
        env={"SIGER_PORT": "127.0.0.1:0", "SIGER_DATA_DIR": str(tmp_path)},
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    gateway.process = process
    gateway._reader = asyncio.create_task(gateway._read())
    try:
        gateway.port = int((await gateway.line("serving"))["port"])
        assert "wrote a default one" in gateway.lines[0]["message"]
        assert (await gateway.get("/health/live")).status == 200
    finally:
        await gateway.stop()
    assert run("check", "--config", str(gateway.config_path)).returncode == 0


def test_check_and_routes_show_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "services: {s: {endpoints: ['127.0.0.1:1']}}\nexpose_services: [s]\n"
        "routes: [{name: r, match: {path_prefix: /a, methods: [GET]}, service: s}]\n"
    )
    assert run("check", "--config", str(path)).stdout == f"{path}: ok\n"
    table = run("routes", "--config", str(path)).stdout
    assert "GET /a/*" in table
    rows = json.loads(run("routes", "--config", str(path), "--json").stdout)
    assert {"health", "metrics", "jobs", "r", "services/s"} <= {row["name"] for row in rows}


@pytest.mark.parametrize(
    "arguments", [("--type", "a.b"), ("--type", "*"), ("--type", "a", "--lane", "x")]
)
def test_a_worker_refuses_what_is_no_type_and_no_lane(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text('nats_address: "127.0.0.1:1"\n')
    done = run("worker", *arguments, "--exec", "true", "--config", str(path))
    assert done.returncode == 2
    assert done.stderr.startswith("siger-gateway worker: ")
