"""The gateway's own services, as far as a call can be answered without protobuf.

protobuf is an extra, and takes time and memory to load. So what dispatches calls knows messages as
bytes only, and the handlers of a service are made when it is called for the first time.
``handlers`` has what makes a handler of a plain function over messages.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping

from siger_gateway.http.headers import Headers
from siger_gateway.http.tornado import Caller


class Context:
    """What a handler may know of its call, and say beside its messages.

    :param caller: None where the route does not ask who it is.
    :param fields: the metadata of the call; the last of each name.
    """

    __slots__ = ("caller", "fields", "trailers")

    def __init__(self, caller: Caller | None, fields: Mapping[bytes, bytes]) -> None:
        self.caller = caller
        self.fields = fields
        self.trailers: Headers = []
        """Metadata that is sent behind the last message."""


Handler = Callable[[AsyncIterator[bytes], Context], AsyncGenerator[bytes | None, None]]
"""Makes the messages of the answer of those of the call. ``None`` in place of a message sends the
head alone, for clients that would otherwise wait for it. An error is a ``GatewayError``, or a
``framing.BadFrame``; a call that the client gives up, or whose deadline comes, is cancelled."""

Handlers = Mapping[str, Handler]
"""Those of a service, by the names of its methods."""


class Services:
    """The services by their full names.

    :param makers: what makes the handlers of each.
    """

    def __init__(self, makers: Mapping[str, Callable[[], Handlers]]) -> None:
        self._makers = makers
        self._made: dict[str, Handlers] = {}

    def handler(self, path: bytes) -> Handler | None:
        """Of the method that ``path``, ``/package.Service/Method``, names; None: there is none."""
        name, _, method = path[1:].decode("latin-1").partition("/")
        if name not in self._made:
            make = self._makers.get(name)
            if make is None:
                return None
            self._made[name] = make()
        return self._made[name].get(method)
