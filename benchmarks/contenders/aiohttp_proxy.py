"""A reverse proxy as one writes it with aiohttp, on uvloop.

``python -m benchmarks.contenders.aiohttp_proxy [--certificate FILE] PORT ENDPOINT...``
"""

from __future__ import annotations

import asyncio
from itertools import cycle
from uuid import uuid4

import uvloop
from aiohttp import ClientSession, DummyCookieJar, TCPConnector, web

from benchmarks.contenders.arguments import BACKLOG, arguments

NOT_RETURNED = frozenset({"connection", "transfer-encoding", "keep-alive"})


async def main() -> None:
    found = arguments()
    endpoints = cycle(found.endpoints)
    session = ClientSession(
        connector=TCPConnector(limit=0), auto_decompress=False, cookie_jar=DummyCookieJar()
    )

    async def forward(request: web.BaseRequest) -> web.StreamResponse:
        headers = request.headers.copy()
        headers.pop("Connection", None)
        request_id = headers.setdefault("X-Request-ID", uuid4().hex)
        headers["X-Forwarded-For"] = request.remote or ""
        headers["X-Forwarded-Proto"] = request.scheme
        headers["X-Forwarded-Host"] = request.host
        async with session.request(
            request.method,
            f"http://{next(endpoints)}{request.raw_path}",
            headers=headers,
            data=request.content if request.can_read_body else None,
            allow_redirects=False,
        ) as answer:
            returned = [one for one in answer.headers.items() if one[0].lower() not in NOT_RETURNED]
            response = web.StreamResponse(status=answer.status)
            response.headers.extend(returned)
            response.headers["X-Request-ID"] = request_id
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            await response.write_eof()
            return response

    runner = web.ServerRunner(web.Server(forward, access_log=None))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", found.port, ssl_context=found.tls, backlog=BACKLOG)
    await site.start()
    await asyncio.Event().wait()


uvloop.run(main())
