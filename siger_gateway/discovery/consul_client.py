"""Consul's HTTP API over the gateway's own upstream connections: no threads, no second client.

py-consul knows paths, parameters and status codes, and leaves the wire to an ``HTTPClient``: the
one here. Tornado's client would do, except that a request once sent cannot be taken back: a
blocking query stays open for a minute after its task was cancelled. ``UpstreamConnection`` closes
at once, and is reused between queries. Consul's token travels in a header, never in a URL.

Failures raise ``consul.ConsulException`` (a status, a body or an index that is not Consul's) or
``OSError`` (no connection, no answer in time).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec
from consul.base import Consul, HTTPClient
from consul.base import Response as ConsulResponse
from consul.callback import CB
from consul.exceptions import ConsulException
from tornado.httputil import HTTPHeaders

from siger_gateway.discovery.answers import (
    CheckState,
    CheckStates,
    Entry,
    check_states,
    parse_index,
)
from siger_gateway.http.message import Response
from siger_gateway.http1.client import UpstreamConnection

CONNECT_TIMEOUT: Final = 2.0
"""Seconds to connect to the agent, which is on this machine or near it."""
REQUEST_TIMEOUT: Final = 10.0
"""Seconds for an answer that nothing has to happen for. Consul's servers wait up to 7 s for a
leader (``rpc_hold_timeout``) before they say that there is none."""
WAIT_MARGIN: Final = 5.0
"""Seconds that a blocking query's answer may come late, beyond Consul's own jitter."""
IDLE_TIMEOUT: Final = 30.0
"""Seconds after which an idle connection is not trusted any more: load balancers close at 60."""
MAX_ANSWER: Final = 64 * 1024 * 1024
"""Bytes of one answer: a hundred thousand checks."""
NOT_CONSUL: Final = "not an answer of Consul"

Params = Sequence[tuple[str, Any]]
T = TypeVar("T")


class ConsulClient:
    """One agent.

    :param address: ``host:port``; IPv6 in brackets.
    :param token: of the ACL; empty: ``CONSUL_HTTP_TOKEN`` of the environment, or none.
    """

    def __init__(self, address: str, token: str) -> None:
        self.host, self.port = split_address(address)
        self._consul = _Consul(self.host, self.port, token=token or None, scheme="http")
        if token:  # py-consul would prefer the environment's
            self._consul.token = token

    async def passing(self, service: str, index: int, wait: float) -> tuple[int, list[Entry]]:
        """The passing instances of a service.

        :param index: the answer comes when Consul's is another one; 0: at once.
        :param wait: seconds after which it comes nevertheless; Consul adds up to a sixteenth.
        """
        answer = await self._consul.health.service(
            service, passing=True, index=index or None, wait=_milliseconds(wait)
        )
        return _converted(answer, list[Entry])

    async def registered(self, service: str) -> tuple[int, list[Entry]]:
        """All instances of a service, passing or not, as a majority of the servers knows them.

        :raises ConsulException: also when the ACL hides some (Consul says so since 1.12).
        """
        path = f"/v1/health/service/{service}"
        index, entries = await self._get(_visible(list[Entry]), path, [("consistent", "1")])
        return index, entries

    async def services(self, index: int, wait: float) -> tuple[int, dict[str, list[str]]]:
        """The names of all services, with the tags of all their instances; parameters as for
        ``passing``."""
        answer = await self._consul.catalog.services(index=index or None, wait=_milliseconds(wait))
        return _converted(answer, dict[str, list[str]])

    async def checks(self, index: int, wait: float) -> tuple[int, CheckStates]:
        """The state of every check there is; parameters as for ``passing``.

        Not through ``consul.health.state``: it would decode all that a check holds, and this
        answer can be megabytes.
        """
        params = [("index", index), ("wait", _milliseconds(wait))] if index else []
        index, checks = await self._get(_decoded(list[CheckState]), "/v1/health/state/any", params)
        return index, check_states(checks)

    async def agent_address(self) -> str:
        """The address that the agent advertises to others."""
        agent: _Agent = await self._get(_agent, "/v1/agent/self", [])
        return agent.member.address

    async def has_service(self, service_id: str) -> bool:
        """Whether the agent knows this instance as its own."""
        found = await self._get(CB.json(), f"/v1/agent/service/{service_id}", [])
        return found is not None

    async def register(
        self,
        service_id: str,
        name: str,
        host: str,
        port: int,
        tags: Sequence[str],
        meta: Mapping[str, str],
        check: Mapping[str, Any],
    ) -> None:
        """Tells the agent of an instance; an instance with the same id is replaced."""
        await self._consul.agent.service.register(
            name,
            service_id=service_id,
            address=host,
            port=port,
            tags=list(tags),
            meta=dict(meta),
            check=dict(check),
            replace_existing_checks=True,
        )

    async def deregister(self, service_id: str) -> None:
        """Removes an instance from the agent; one that it does not know is no error."""
        await self._consul.agent.service.deregister(service_id)

    @property
    def losses(self) -> int:
        """Connections that the agent closed so far. When it grows, the agent may be another one,
        with another history, and indexes from before may never be reached."""
        losses: int = self._consul.http.losses
        return losses

    async def close(self) -> None:
        """Closes every connection; requests under way fail."""
        self._consul.http.close()
        await asyncio.sleep(0)  # the transports are closed by the loop's next turn

    async def _get(self, read: Callable[[ConsulResponse], Any], path: str, params: Params) -> Any:
        headers = self._consul.prepare_headers()
        return await self._consul.http.get(read, path, params=params, headers=headers)


def split_address(address: str) -> tuple[str, int]:
    """``[::1]:8500`` -> ``("::1", 8500)``."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _milliseconds(seconds: float) -> str:
    return f"{max(round(seconds * 1000), 1)}ms"


class _Member(msgspec.Struct, frozen=True):
    address: str = msgspec.field(name="Addr")


class _Agent(msgspec.Struct, frozen=True):
    member: _Member = msgspec.field(name="Member")


def _agent(response: ConsulResponse) -> _Agent:
    return msgspec.json.decode(CB.binary()(response), type=_Agent)


def _decoded(kind: Any) -> Callable[[ConsulResponse], tuple[int, Any]]:
    """A reader of the index and the body; CB.binary() raises for every status but success."""

    def read(response: ConsulResponse) -> tuple[int, Any]:
        body: bytes = CB.binary()(response)
        index = parse_index(response.headers.get("X-Consul-Index", "missing"))
        return index, msgspec.json.decode(body, type=kind)

    return read


def _visible(kind: Any) -> Callable[[ConsulResponse], tuple[int, Any]]:
    """``_decoded``, for when what is not there matters."""

    def read(response: ConsulResponse) -> tuple[int, Any]:
        if response.headers.get("X-Consul-Results-Filtered-By-ACLs") == "true":
            raise ConsulException("the ACL token does not show all instances")
        return _decoded(kind)(response)

    return read


def _converted(answer: tuple[str, Any], kind: Any) -> tuple[int, Any]:
    """What py-consul has parsed, with its types checked."""
    try:
        return parse_index(answer[0]), msgspec.convert(answer[1], kind)
    except ValueError as error:
        raise ConsulException(f"{NOT_CONSUL}: {error}") from error


class _Consul(Consul):  # type: ignore[misc]
    def http_connect(
        self, host: str, port: int, scheme: str, verify: object = True, cert: object = None
    ) -> _Http:
        return _Http(host, port)


class _Http(HTTPClient):  # type: ignore[misc]
    """py-consul's transport. It owns the connections: those in use, and those idle."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(host, port)
        self.base_uri = ""  # so that uri() makes request targets
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._fields = [(b"host", authority.encode()), (b"user-agent", b"siger-gateway")]
        self._idle: list[UpstreamConnection] = []
        self._open: set[UpstreamConnection] = set()
        self.losses = 0

    async def get(
        self,
        callback: Callable[[ConsulResponse], T],
        path: str,
        params: Params | None = None,
        headers: dict[str, str] | None = None,
        raw: bool = False,
    ) -> T:
        return await self._fetch(callback, b"GET", path, params, headers, b"")

    async def put(
        self,
        callback: Callable[[ConsulResponse], T],
        path: str,
        params: Params | None = None,
        data: str | bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> T:
        body = data.encode() if isinstance(data, str) else data
        return await self._fetch(callback, b"PUT", path, params, headers, body)

    async def delete(self, *args: object, **options: object) -> Any:
        raise NotImplementedError  # nothing here deletes or posts; the base class wants them

    async def post(self, *args: object, **options: object) -> Any:
        raise NotImplementedError

    def close(self) -> None:
        for connection in [*self._open]:
            self._abort(connection)

    async def _fetch(
        self,
        callback: Callable[[ConsulResponse], T],
        method: bytes,
        path: str,
        params: Params | None,
        headers: dict[str, str] | None,
        body: bytes,
    ) -> T:
        fields = [
            *self._fields,
            *((name.lower().encode(), value.encode()) for name, value in (headers or {}).items()),
        ]
        if method == b"PUT":
            fields.append((b"content-length", b"%d" % len(body)))
        timeout = _timeout(params or ())
        answer = _Answer()
        try:
            async with asyncio.timeout(timeout):
                connection = await self._connection()
                try:
                    target = self.uri(path, params).encode()
                    connection.begin(answer, method, target, fields, len(body))
                    if body:
                        connection.write_data(body)
                        connection.write_end([])
                    await answer.done
                finally:
                    if not answer.ended:  # else it may already be somebody else's
                        self._abort(connection)
        except TimeoutError:
            raise TimeoutError(f"no answer within {timeout:g} s") from None
        try:
            return callback(answer.response())
        except (ValueError, RecursionError) as error:
            raise ConsulException(f"{NOT_CONSUL}: {error}") from error

    async def _connection(self) -> UpstreamConnection:
        loop = asyncio.get_running_loop()
        while self._idle:
            connection = self._idle.pop()
            if loop.time() - connection.idle_since < IDLE_TIMEOUT:
                return connection
            self._abort(connection)
        async with asyncio.timeout(CONNECT_TIMEOUT):
            _, connection = await loop.create_connection(
                lambda: UpstreamConnection(self), self.host, self.port
            )
        self._open.add(connection)
        return connection

    def _abort(self, connection: UpstreamConnection) -> None:
        self._open.discard(connection)  # before forget() hears of it: not the agent's doing
        connection.abort()

    # As owner of the connections.

    def release(self, connection: UpstreamConnection) -> None:
        connection.idle_since = asyncio.get_running_loop().time()
        self._idle.append(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        if connection in self._open:
            self._open.remove(connection)
            self.losses += 1
        if connection in self._idle:
            self._idle.remove(connection)


def _timeout(params: Params) -> float:
    """Seconds: a blocking query is answered after its wait and up to a sixteenth more."""
    wait = dict(params).get("wait") if any(name == "index" for name, _ in params) else None
    if wait is None:
        return REQUEST_TIMEOUT
    seconds = float(wait.removesuffix("ms")) / 1000
    return seconds + seconds / 16 + WAIT_MARGIN


class _Answer:
    """Collects one response; the consumer of an ``UpstreamConnection``."""

    def __init__(self) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ended = False
        """The connection is no longer ours."""
        self._head: Response | None = None
        self._body = bytearray()

    def response(self) -> ConsulResponse:
        """What arrived, as py-consul takes it; after ``done``."""
        assert self._head is not None
        headers = HTTPHeaders()
        for name, value in self._head.headers:
            headers.add(name.decode("latin-1"), value.decode("latin-1"))
        return ConsulResponse(self._head.status, headers, bytes(self._body))

    def on_informational(self, response: Response) -> None: ...

    def on_response(self, response: Response) -> None:
        self._head = response
        self.on_response_data(response)

    def on_response_data(self, response: Response) -> None:
        self._body += response.take_body()
        self.ended = response.complete
        if self.done.done():
            return
        if len(self._body) > MAX_ANSWER:
            self.done.set_exception(ConsulException(f"an answer above {MAX_ANSWER} bytes"))
        elif response.complete:
            self.done.set_result(None)

    def on_upstream_lost(self, reason: str, detail: str) -> None:
        self.ended = True
        if not self.done.done():
            self.done.set_exception(ConnectionError(f"{reason}: {detail}"))

    def pause_request(self) -> None: ...

    def resume_request(self) -> None: ...
