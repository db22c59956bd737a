"""The command line: ``serve``, ``dev``, ``check``, ``routes``, ``worker``, ``token``, ``key``.

Exit codes: 0 when all went well, 1 when something could not be done (a port in use), 2 when the
command line or the configuration is wrong, as Unix tools and argparse have it.

A command imports what it alone needs when it runs: `serve` starts without the parts of `dev` and
`worker`, and what only looks at the configuration starts without the gateway.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson
import uvloop

from siger_gateway import __version__
from siger_gateway.config.load import Loaded, load, loads
from siger_gateway.config.problem import ConfigError
from siger_gateway.config.render import render_default
from siger_gateway.config.schema import Config
from siger_gateway.grpc.descriptor_files import check_transcoding
from siger_gateway.telemetry import log as logs

if TYPE_CHECKING:
    from siger_gateway.gateway import Gateway
    from siger_gateway.routing.tags import Catalog

DEFAULT_CONFIG: Final = "configs/config.yaml"
OTHER_FILES: Final = 256
"""Files beside downstream connections: libraries and logs, and one service's `max_connections`."""

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program; returns its exit code."""
    arguments = _parser().parse_args(_with_default_command(sys.argv[1:] if argv is None else argv))
    try:
        return int(arguments.run(arguments))
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        return 130


def _with_default_command(argv: Sequence[str]) -> list[str]:
    """``serve`` is what runs when no command is given."""
    if argv and (not argv[0].startswith("-") or argv[0] in ("-h", "--help", "--version")):
        return list(argv)
    return ["serve", *argv]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="siger-gateway",
        description="An API gateway: REST to services and to a job queue. "
        "Without a command: serve.",
        epilog="Every key of the configuration is described in the file that `serve` writes "
        "when there is none.",
    )
    parser.add_argument("--version", action="version", version=f"siger-gateway {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: Any, summary: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=summary, description=summary)
        sub.set_defaults(run=run)
        return sub

    def with_config(sub: argparse.ArgumentParser) -> argparse.ArgumentParser:
        sub.add_argument(
            "--config", default=DEFAULT_CONFIG, metavar="FILE", help="default: %(default)s"
        )
        return sub

    with_config(command("serve", _serve, "run the gateway"))
    dev = command("dev", _dev, "run everything on this machine: queue, demo services, worker")
    dev.add_argument("--port", type=int, default=8080, help="default: %(default)s")
    with_config(
        command("check", _check, "validate a configuration; exit 0, or 2 with the problems")
    )
    routes = with_config(command("routes", _routes, "print the effective route table"))
    routes.add_argument("--json", action="store_true", help="as JSON")
    worker = with_config(command("worker", _worker, "take jobs of one type and run them"))
    worker.add_argument("--type", required=True, help="job type")
    worker.add_argument("--lane", default="", help="only this lane; default: all")
    worker.add_argument("--concurrency", type=int, default=1, help="default: %(default)s")
    worker.add_argument(
        "--exec",
        required=True,
        metavar="CMD",
        help="command to run for each job: the job comes as JSON on its standard input",
    )
    token = with_config(command("token", _token, "make a token, for trying things out"))
    token.add_argument("--user", required=True, help="whom it is for")
    token.add_argument("--role", default="", help="such as admin; default: none")
    key = command("key", _key, "make an API key, and what the file of keys needs of it")
    key.add_argument("--user", required=True, help="whom it is for")
    key.add_argument("--id", default="", help="its name in logs; default: the user's, and the date")
    return parser


def _run(main: Coroutine[Any, Any, int]) -> int:
    """Runs on uvloop, under which Tornado's IOLoop runs too."""
    code: int = uvloop.run(main)
    return code


# serve


def _serve(arguments: argparse.Namespace) -> int:
    path = Path(arguments.config)
    loaded = _load_to_serve(path) if path.exists() else _write_default(path)
    logs.configure(loaded.config.log_level)
    _log_warnings(loaded)
    _raise_file_limit(loaded.config.limits.connections)
    return _run(_serve_until_stopped(loaded, path))


def _load_to_serve(path: str | Path) -> Loaded:
    """With those files looked into that only serving takes."""
    return load(path, checks=[check_transcoding])


def _write_default(path: Path) -> Loaded:
    text = render_default()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:  # a read-only file system: the defaults hold all the same
        said = f"and a default one cannot be written: {error.strerror}"
    else:
        said = "wrote a default one"
    print(f"no configuration at {path}: {said}", file=sys.stderr)  # noqa: T201
    return loads(text, str(path))


def _raise_file_limit(connections: int) -> None:
    """Every connection is a file descriptor; shells often allow fewer than the kernel does.

    :param connections: ``limits.connections``; warns when there are not enough files for them.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed != resource.RLIM_INFINITY and allowed < connections + OTHER_FILES:
        log.warning(
            "fewer open files are allowed than limits.connections needs: raise the limit "
            "(ulimit -Hn, LimitNOFILE) or lower the key",
            extra={"fields": {"allowed": allowed, "limits.connections": connections}},
        )


async def _serve_until_stopped(loaded: Loaded, path: Path) -> int:
    from siger_gateway.gateway import Gateway

    try:
        gateway = Gateway(loaded.config)
    except OSError as error:
        log.error("cannot open a file", extra={"fields": {"error": str(error)}})
        return 1
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_stop() -> None:
        if stop.is_set():  # the second one: whoever sends it does not want to wait
            os._exit(1)
        stop.set()

    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, on_stop)
    loop.add_signal_handler(signal.SIGHUP, _reload, gateway, path)
    try:
        await gateway.start()
    except OSError as error:
        log.error(
            "cannot listen",
            extra={"fields": {"port": loaded.config.port, "error": error.strerror or str(error)}},
        )
        await gateway.close()
        return 1
    await stop.wait()
    log.info("draining")
    await gateway.drain()
    await gateway.close()
    log.info("stopped")
    return 0


def _reload(gateway: Gateway, path: Path) -> None:
    """A configuration that fails validation never replaces a running one."""
    try:
        loaded = _load_to_serve(path)
    except ConfigError as error:
        _refuse_reload(gateway, error)
        return
    try:
        gateway.reload(loaded.config)
    except ConfigError as error:  # of a file that it names
        _refuse_reload(gateway, error)
        return
    except OSError as error:
        gateway.metrics.config_reloads["refused"] += 1
        said = f"cannot open a file: {error}"
        log.error("reload refused", extra={"fields": {"problem": said}})
        return
    _log_warnings(loaded)
    logging.root.setLevel(loaded.config.log_level.upper())
    gateway.metrics.config_reloads["ok"] += 1


def _refuse_reload(gateway: Gateway, error: ConfigError) -> None:
    gateway.metrics.config_reloads["refused"] += 1
    for problem in error.problems:
        log.error("reload refused", extra={"fields": {"problem": str(problem)}})


def _log_warnings(loaded: Loaded) -> None:
    for warning in loaded.warnings:
        log.warning("configuration", extra={"fields": {"problem": str(warning)}})


# dev


def _dev(arguments: argparse.Namespace) -> int:
    from siger_gateway.dev import run_dev

    logs.configure("warning")
    return _run(run_dev(arguments.port))


# check, routes


def _check(arguments: argparse.Namespace) -> int:
    loaded = _load_to_serve(arguments.config)
    if loaded.config.auth.api_keys:
        from siger_gateway.filters.api_key_file import load_keys

        load_keys(loaded.config.auth.api_keys)
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)  # noqa: T201
    print(f"{arguments.config}: ok")  # noqa: T201
    return 0


def _routes(arguments: argparse.Namespace) -> int:
    from siger_gateway.routing.describe import describe
    from siger_gateway.routing.effective import effective

    config = load(arguments.config).config
    rows = [describe(route) for route in effective(config, _last_catalog(config)).routes]
    if arguments.json:
        print(orjson.dumps(rows).decode())  # noqa: T201
        return 0
    titles = ("ROUTE", "MATCH", "TO", "CHANGES", "POLICY", "TIMEOUT", "FROM")
    cells = [titles, *(tuple(row.values()) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(line.rstrip())  # noqa: T201
    return 0


def _last_catalog(config: Config) -> Catalog:
    """The services in Consul as the gateway on this machine last saw them."""
    if not config.consul_address or not config.data_dir:
        return {}
    from siger_gateway.discovery.snapshot import SNAPSHOT_FILE, Snapshot

    tables = Snapshot(Path(config.data_dir) / SNAPSHOT_FILE).load()
    return tables.catalog if tables is not None else {}


# token, key


def _token(arguments: argparse.Namespace) -> int:
    from siger_gateway.filters.tokens import mint

    jwt = load(arguments.config).config.auth.jwt
    if not jwt.secret:
        print(  # noqa: T201
            f"{arguments.config}: auth.jwt.secret is empty: there is nothing to sign with",
            file=sys.stderr,
        )
        return 2
    try:
        minted = mint(
            arguments.user,
            arguments.role,
            jwt.secret,
            jwt.accepted[0],
            jwt.lifetime,
            jwt.issuer,
            jwt.audience,
            time.time(),
        )
    except ValueError as error:
        print(f"siger-gateway token: {error}", file=sys.stderr)  # noqa: T201
        return 2
    print(minted)  # noqa: T201
    return 0


def _key(arguments: argparse.Namespace) -> int:
    from siger_gateway.filters.api_keys import hash_of, new_key

    key = new_key()
    name = arguments.id or f"{arguments.user}-{time.strftime('%Y-%m-%d')}"
    entry = {"id": name, "hash": hash_of(key), "user": arguments.user}
    print(f"{key}\n", file=sys.stderr)  # noqa: T201
    print(f"- {orjson.dumps(entry).decode()}")  # noqa: T201
    return 0


# worker


def _worker(arguments: argparse.Namespace) -> int:
    config = load(arguments.config).config
    logs.configure(config.log_level)
    if not config.nats_address:
        print(f"{arguments.config}: nats_address is empty: no jobs", file=sys.stderr)  # noqa: T201
        return 2
    return _run(_work(arguments, config.nats_address, config.jobs.stream))


async def _work(arguments: argparse.Namespace, servers: str, stream: str) -> int:
    from siger_gateway.jobs.exec import exec_handler
    from siger_gateway.jobs.worker import Worker

    try:
        worker = Worker(
            servers,
            arguments.type,
            lane=arguments.lane,
            concurrency=arguments.concurrency,
            handler=exec_handler(arguments.exec),
            stream=stream,
        )
    except ValueError as error:  # an unknown lane, a type that is no token
        print(f"siger-gateway worker: {error}", file=sys.stderr)  # noqa: T201
        return 2
    await worker.run_until_signal()
    return 0
