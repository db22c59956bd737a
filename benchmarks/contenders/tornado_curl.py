"""A reverse proxy as one writes it with plain Tornado: a handler, and its client on libcurl.

``python -m benchmarks.contenders.tornado_curl [--certificate FILE] PORT ENDPOINT...``
"""

from __future__ import annotations

import asyncio
from itertools import cycle
from uuid import uuid4

import uvloop
from tornado.httpclient import AsyncHTTPClient
from tornado.web import Application, RequestHandler

from benchmarks.contenders.arguments import BACKLOG, arguments

NOT_RETURNED = frozenset({"connection", "content-length", "transfer-encoding", "keep-alive"})


class Proxy(RequestHandler):
    def initialize(self, endpoints: cycle[str]) -> None:
        self.endpoints = endpoints

    async def _forward(self) -> None:
        request = self.request
        headers = request.headers.copy()
        headers.pop("Connection", None)
        headers.pop("Accept-Encoding", None)  # curl would decode
        request_id = headers.setdefault("X-Request-ID", uuid4().hex)
        headers["X-Forwarded-For"] = request.remote_ip or ""
        headers["X-Forwarded-Proto"] = request.protocol
        headers["X-Forwarded-Host"] = request.host
        answer = await AsyncHTTPClient().fetch(
            f"http://{next(self.endpoints)}{request.uri}",
            method=request.method or "GET",
            headers=headers,
            body=request.body or None,
            raise_error=False,
            follow_redirects=False,
            decompress_response=False,
            allow_nonstandard_methods=True,
        )
        self.set_status(answer.code)
        for name, value in answer.headers.get_all():
            if name.lower() not in NOT_RETURNED:
                self.add_header(name, value)
        self.set_header("X-Request-ID", request_id)
        await self.finish(answer.body)

    get = post = _forward  # type: ignore[assignment]


async def main() -> None:
    found = arguments()
    AsyncHTTPClient.configure("tornado.curl_httpclient.CurlAsyncHTTPClient", max_clients=1000)
    application = Application(
        [(".*", Proxy, {"endpoints": cycle(found.endpoints)})], log_function=lambda handler: None
    )
    application.listen(
        found.port,
        "127.0.0.1",
        backlog=BACKLOG,
        ssl_options=found.tls,
        max_buffer_size=1 << 28,
    )
    await asyncio.Event().wait()


uvloop.run(main())
