"""Programs of the checkout that tests run: benchmarks, and services that end by themselves."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent


@asynccontextmanager
async def module(name: str, *words: object, folder: Path = ROOT) -> AsyncIterator[Process]:
    """``python -m name words...`` with its output in a pipe; it is killed if it still runs.

    :param folder: where it works.
    """
    argv = [sys.executable, "-m", name, *(str(word) for word in words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        *argv, cwd=folder, stdout=PIPE, stderr=DEVNULL, env=environment
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
