"""Large bodies through a gateway: what arrived, and what it cost in memory."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import Serve, Services
from tests.running import RunningGateway, Served, Upstream

MEBIBYTE = 1 << 20
ALLOWED_GROWTH = 16 * MEBIBYTE
"""Bytes of memory that a body of any size may add (issue 3)."""
BOUND = 300.0
"""Seconds for one body; 1 GiB takes a few."""
FRAMINGS = ("sized", "chunked")

_BLOCK = random.Random(1).randbytes(MEBIBYTE - 8)


def pieces(size: int) -> Iterator[bytes]:
    """``size`` bytes in pieces of a MiB, each of them different."""
    for number in range(size // MEBIBYTE):
        yield number.to_bytes(8) + _BLOCK


def sha256(size: int) -> str:
    digest = hashlib.sha256()
    for piece in pieces(size):
        digest.update(piece)
    return digest.hexdigest()


async def send_body(writer: asyncio.StreamWriter, size: int, framing: str) -> None:
    """Head fields for the framing, the end of the head, and the body."""
    if framing == "sized":
        writer.write(b"Content-Length: %d\r\n\r\n" % size)
    else:
        writer.write(b"Transfer-Encoding: chunked\r\n\r\n")
    for piece in pieces(size):
        if framing == "chunked":
            writer.writelines((b"%x\r\n" % len(piece), piece, b"\r\n"))
        else:
            writer.write(piece)
        await writer.drain()
    if framing == "chunked":
        writer.write(b"0\r\n\r\n")
    await writer.drain()


async def read_body(reader: asyncio.StreamReader, head: bytes) -> str:
    """The SHA-256 of the body that follows ``head``."""
    digest = hashlib.sha256()
    head = head.lower()
    if b"\r\ntransfer-encoding: chunked\r\n" in head:
        while size := int(await reader.readuntil(b"\r\n"), 16):
            await _read_into(digest, reader, size)
            assert await reader.readexactly(2) == b"\r\n"
        assert await reader.readexactly(2) == b"\r\n"
    else:
        await _read_into(digest, reader, int(head.partition(b"content-length: ")[2].split()[0]))
    return digest.hexdigest()


async def _read_into(digest: hashlib._Hash, reader: asyncio.StreamReader, size: int) -> None:
    while size:
        data = await reader.read(min(size, MEBIBYTE))
        assert data, f"{size} bytes are missing"
        digest.update(data)
        size -= len(data)


@dataclass
class Peak:
    """The growth of a process's memory to its highest point, from here on."""

    gateway: RunningGateway

    def __post_init__(self) -> None:
        Path(f"/proc/{self.gateway.pid}/clear_refs").write_text("5")  # proc(5): resets VmHWM
        self._before = self._highest()

    def _highest(self) -> int:
        status = Path(f"/proc/{self.gateway.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    def growth(self) -> int:
        return self._highest() - self._before


async def transfer(
    serve: Serve, services: Services, size: int, framing: str
) -> tuple[str, str, int]:
    """Sends a body up, which the service answers with its digest and a body as large.

    Returns both digests, as service and client made them, and the growth of the gateway's memory.
    """
    uploaded = ""

    async def script(upstream: Upstream, served: Served) -> None:
        nonlocal uploaded
        uploaded = await read_body(served.reader, served.head)
        served.writer.write(b"HTTP/1.1 200 OK\r\n")
        await send_body(served.writer, int(served.field("x-size")[0]), framing)

    (upstream,) = await services(script)
    gateway = await serve(
        'consul_address: ""\nnats_address: ""\nlimits: {body: 2GiB}\n'
        f'services: {{s: {{endpoints: ["{upstream.address}"]}}}}\n'
        "routes: [{name: r, match: {path_prefix: /}, service: s, timeout: 5m}]\n"
    )

    async def once(size: int) -> str:
        async with gateway.connect() as client, asyncio.timeout(BOUND):
            head = f"POST / HTTP/1.1\r\nHost: a\r\nX-Size: {size}\r\n"
            client.writer.write(head.encode())
            await send_body(client.writer, size, framing)
            answer = await client.reader.readuntil(b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200 ")
            return await read_body(client.reader, answer)

    assert await once(0) == sha256(0)
    peak = Peak(gateway)
    downloaded = await once(size)
    return uploaded, downloaded, peak.growth()
