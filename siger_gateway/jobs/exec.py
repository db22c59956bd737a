"""A handler that runs a program: ``siger-gateway worker --type T --exec CMD``.

The program gets the job document as JSON on standard input. What it prints is the result: the last
line, if that is JSON, or else the text. On standard error it may report progress with lines like
``progress 40 loading the model``; the end of what it writes there explains a failure. Exit status 0
is success. A cancel request sends SIGTERM to the program and everything that it started (they are
a process group of their own), and SIGKILL after a grace.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import signal
from typing import Any, Final

import orjson

from siger_gateway.jobs.run import Handler, Job, JobContext, JobFailed

MAX_OUTPUT: Final = 256 * 1024
"""Bytes of standard output that are kept: the last ones."""
MAX_ERRORS: Final = 4 * 1024
"""Bytes of standard error that are kept: the last ones."""
TERM_GRACE: Final = 5.0
"""Seconds from SIGTERM to SIGKILL."""
PIPE_GRACE: Final = 1.0
"""Seconds that pipes may stay open after the program's end: something it started holds them."""

_PROGRESS: Final = re.compile(rb"progress\s+(\d{1,3}(?:\.\d{1,9})?)%?(?:\s+(.*))?")


def exec_handler(command: str, grace: float = TERM_GRACE) -> Handler:
    """A handler that runs ``command``, split as a shell would but without a shell.

    :param grace: seconds from SIGTERM to SIGKILL when the job is cancelled.
    :raises ValueError: the command is empty or its quotes do not match.
    """
    arguments = shlex.split(command)
    if not arguments:
        raise ValueError("the command is empty")

    async def run(job: Job, context: JobContext) -> Any:
        try:
            process = await asyncio.create_subprocess_exec(
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise JobFailed(f"{arguments[0]}: {error.strerror}") from None
        output, errors = _Tail(MAX_OUTPUT), _Tail(MAX_ERRORS)
        assert process.stdout
        assert process.stderr
        pipes = [
            asyncio.create_task(_feed(process, orjson.dumps(job.document))),
            asyncio.create_task(output.read(process.stdout)),
            asyncio.create_task(errors.read_lines(process.stderr, context)),
        ]
        try:
            await _finish(process, context, grace)
            await asyncio.wait(pipes, timeout=PIPE_GRACE)
        finally:
            await _end(process, grace)
            for pipe in pipes:
                pipe.cancel()
            await asyncio.gather(*pipes, return_exceptions=True)
        if process.returncode:
            raise JobFailed(_explain(process.returncode, errors.text()))
        return _result(output.text())

    return run


async def _finish(process: asyncio.subprocess.Process, context: JobContext, grace: float) -> None:
    """Waits for the program, or ends it when the job is cancelled."""
    ended = asyncio.create_task(process.wait())
    cancelled = asyncio.create_task(context.wait_cancelled())
    try:
        await asyncio.wait((ended, cancelled), return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            await _end(process, grace)
    finally:
        ended.cancel()
        cancelled.cancel()


async def _end(process: asyncio.subprocess.Process, grace: float) -> None:
    """SIGTERM, then SIGKILL, to the whole group; what the program left behind goes too."""
    if process.returncode is None:
        _signal(process, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await process.wait()
    _signal(process, signal.SIGKILL)
    await process.wait()


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


async def _feed(process: asyncio.subprocess.Process, data: bytes) -> None:
    """A program need not read its input: a closed pipe is no error."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(data)
        await process.stdin.drain()
        process.stdin.close()


class _Tail:
    """The last bytes of a pipe."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = bytearray()

    def text(self) -> str:
        return self._data.decode(errors="replace")

    def _keep(self, chunk: bytes) -> None:
        self._data += chunk
        del self._data[: -self._limit]

    async def read(self, pipe: asyncio.StreamReader) -> None:
        while chunk := await pipe.read(65536):
            self._keep(chunk)

    async def read_lines(self, pipe: asyncio.StreamReader, context: JobContext) -> None:
        """As ``read``; whole lines that are progress are reported and not kept."""
        rest = b""
        while chunk := await pipe.read(65536):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if match := _PROGRESS.fullmatch(line.strip()):
                    message = (match[2] or b"").decode(errors="replace")
                    await context.progress(float(match[1]), message)
                else:
                    self._keep(line + b"\n")
            if len(rest) > self._limit:
                self._keep(rest)
                rest = b""
        self._keep(rest)


def _explain(status: int, errors: str) -> str:
    """``exit code 3: <the end of standard error>``."""
    try:
        ended = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit code {status}"
    except ValueError:
        ended = f"signal {-status}"
    return f"{ended}: {errors.strip()}" if errors.strip() else ended


def _result(text: str) -> Any:
    """The last line as JSON, or the text; nothing printed is no result."""
    text = text.strip()
    try:
        return orjson.loads(text.rpartition("\n")[2])
    except orjson.JSONDecodeError:
        return text or None
