"""py-consul's API over Tornado's HTTP client: no threads, no second event loop, no aiohttp.

Blocking queries hold their request for minutes, so the client's timeout follows each query's
``wait`` (Consul adds up to a sixteenth of it as jitter); a fixed timeout below it would make every
quiet service look like an outage.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import consul.base
from consul.base import Response
from consul.exceptions import ConsulException
from tornado.httpclient import AsyncHTTPClient, HTTPError
from tornado.simple_httpclient import SimpleAsyncHTTPClient

MARGIN: Final = 10.0
"""Seconds beyond ``wait`` that an answer may take."""
MAX_CLIENTS: Final = 150
"""Requests at a time; an agent accepts about 200 connections from one address."""
FAILURES: Final = (ConsulException, HTTPError, OSError, ValueError)
"""What any call here may raise: Consul said no, the connection broke, the answer was garbage."""

Params = list[tuple[str, Any]] | None


class HTTPClient(consul.base.HTTPClient):  # type: ignore[misc]
    """The transport that py-consul asks for; every method returns an awaitable."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._client: AsyncHTTPClient = SimpleAsyncHTTPClient(
            force_instance=True, max_clients=MAX_CLIENTS
        )

    async def _fetch(
        self,
        method: str,
        callback: Callable[[Response], Any],
        path: str,
        params: Params,
        data: str | bytes | None,
        headers: dict[str, str] | None,
    ) -> Any:
        wait = dict(params or ()).get("wait", "0s")
        timeout = float(wait.removesuffix("s")) * 17 / 16 + MARGIN
        answer = await self._client.fetch(
            self.uri(path, params),
            method=method,
            body=data,
            headers=headers,
            connect_timeout=MARGIN,
            request_timeout=timeout,
            raise_error=False,
        )
        if answer.code == 599 and answer.error is not None:  # Tornado's word for "no answer"
            raise answer.error
        return callback(Response(answer.code, answer.headers, answer.body.decode()))

    def get(
        self,
        callback: Callable[[Response], Any],
        path: str,
        params: Params = None,
        headers: dict[str, str] | None = None,
        raw: bool = False,
    ) -> Any:
        return self._fetch("GET", callback, path, params, None, headers)

    def put(
        self,
        callback: Callable[[Response], Any],
        path: str,
        params: Params = None,
        data: str | bytes = "",
        headers: dict[str, str] | None = None,
    ) -> Any:
        return self._fetch("PUT", callback, path, params, data, headers)

    def delete(
        self,
        callback: Callable[[Response], Any],
        path: str,
        params: Params = None,
        data: str | bytes = "",
        headers: dict[str, str] | None = None,
    ) -> Any:
        return self._fetch("DELETE", callback, path, params, None, headers)

    def post(
        self,
        callback: Callable[[Response], Any],
        path: str,
        params: Params = None,
        data: str = "",
        headers: dict[str, str] | None = None,
    ) -> Any:
        return self._fetch("POST", callback, path, params, data, headers)

    def close(self) -> None:
        self._client.close()


class Consul(consul.base.Consul):  # type: ignore[misc]
    """An agent at ``host:port``. The token goes into a header, never into a URL.

    :param token: wins over ``CONSUL_HTTP_TOKEN``, which py-consul lets override its argument.
    """

    def __init__(self, address: str, token: str) -> None:
        host, _, port = address.rpartition(":")
        super().__init__(host=host.strip("[]"), port=int(port), scheme="http")
        if token:
            self.token = token

    def http_connect(
        self, host: str, port: int, scheme: str, verify: Any = True, cert: Any = None
    ) -> HTTPClient:
        return HTTPClient(f"[{host}]" if ":" in host else host, port, scheme, verify, cert)
