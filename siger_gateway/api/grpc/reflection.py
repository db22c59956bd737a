"""``grpc.reflection``: what services there are and what their messages look like, for tools.

The gateway describes its own services itself; for all others it asks the services behind it, those
that speak HTTP/2 (``upstream_reflection``). To a client it is one server with all of them.

Files of two services may have the same name and hold different things. A client asks for a symbol
first and then for what that file imports, so who has told of the symbol is asked for files first.

v1 and v1alpha differ in the name of the package only, so their messages are the same bytes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from typing import Any, Final

from google.protobuf import descriptor_pool

from siger_gateway.api.grpc.upstream_reflection import Upstreams
from siger_gateway.api.serving import Serving
from siger_gateway.grpc.handlers import conversation
from siger_gateway.grpc.protos.grpc_health.v1 import health_pb2
from siger_gateway.grpc.protos.grpc_reflection.v1 import reflection_pb2
from siger_gateway.grpc.protos.grpc_reflection.v1alpha import reflection_pb2 as alpha_pb2
from siger_gateway.grpc.protos.siger.jobs.v1 import jobs_pb2
from siger_gateway.grpc.service import Context, Handlers
from siger_gateway.grpc.status import Code
from siger_gateway.upstream.cluster import Cluster

Message = Any

_OWN: Final = (jobs_pb2, health_pb2, reflection_pb2, alpha_pb2)


def reflection_handlers(serving: Serving, clusters: Callable[[], Iterable[Cluster]]) -> Handlers:
    """The handlers of the service, by method.

    :param serving: a drain ends conversations.
    :param clusters: the services behind the gateway that may be asked.
    """
    own, upstreams = Own(), Upstreams(clusters)

    async def info(
        requests: AsyncIterator[Message], context: Context
    ) -> AsyncGenerator[Message, None]:
        asked_last = ""  # the service behind the gateway that knew the last symbol
        async for request in serving.until_drained(requests):
            kind = request.WhichOneof("message_request")
            if kind == "list_services":
                response = await _list(own, upstreams, request)
            elif kind is None:
                response = _error(Code.INVALID_ARGUMENT, "The request asks for nothing.")
            else:
                response = None if kind == "file_by_filename" and asked_last else own.of(request)
                if response is None:
                    found = await upstreams.first(request, asked_last)
                    if found is not None:
                        asked_last, response = found
                if response is None:
                    response = own.of(request) or _error(Code.NOT_FOUND, "It is not known here.")
            response.valid_host = request.host
            response.original_request.CopyFrom(request)
            yield response

    return {"ServerReflectionInfo": conversation(reflection_pb2.ServerReflectionRequest, info)}


async def _list(own: Own, upstreams: Upstreams, request: Message) -> Message:
    names = {*own.services, *await upstreams.services(request)}
    response = reflection_pb2.ServerReflectionResponse()
    for name in sorted(names):
        response.list_services_response.service.add(name=name)
    return response


def _error(code: Code, detail: str) -> Message:
    error = reflection_pb2.ErrorResponse(error_code=code, error_message=detail)
    return reflection_pb2.ServerReflectionResponse(error_response=error)


class Own:
    """The files of the gateway's own services, and what they import."""

    def __init__(self) -> None:
        self._files: dict[str, Any] = {}
        for module in _OWN:
            self._add(module.DESCRIPTOR)
        self.services = [
            service.full_name
            for module in _OWN
            for service in module.DESCRIPTOR.services_by_name.values()
        ]
        """Their full names."""

    def _add(self, file: Any) -> None:
        if file.name not in self._files:
            self._files[file.name] = file
            for imported in file.dependencies:
                self._add(imported)

    def of(self, request: Message) -> Message | None:
        """The answer to a request for something of these files; None: it is not in them."""
        kind = request.WhichOneof("message_request")
        if kind == "file_by_filename":
            return self._described(self._files.get(request.file_by_filename))
        if kind == "file_containing_symbol":
            return self._described(self._declaring(request.file_containing_symbol))
        if kind == "all_extension_numbers_of_type":
            name = request.all_extension_numbers_of_type
            file = self._declaring(name)
            if file is not None and not file.package.startswith("google."):
                known = reflection_pb2.ExtensionNumberResponse(base_type_name=name)
                return reflection_pb2.ServerReflectionResponse(all_extension_numbers_response=known)
        return None

    def _declaring(self, symbol: str) -> Any:
        pool = descriptor_pool.Default()
        try:
            name = pool.FindFileContainingSymbol(symbol).name
        except KeyError:
            try:  # some implementations of the pool do not take methods for symbols
                name = pool.FindMethodByName(symbol).containing_service.file.name
            except KeyError:
                return None
        return self._files.get(name)  # others have put files into the pool too

    def _described(self, file: Any) -> Message | None:
        """A file with all that it imports, each after what it needs."""
        if file is None:
            return None
        needed: dict[str, bytes] = {}

        def add(one: Any) -> None:
            if one.name not in needed:
                needed[one.name] = one.serialized_pb
                for imported in one.dependencies:
                    add(imported)

        add(file)
        described = reflection_pb2.FileDescriptorResponse(file_descriptor_proto=needed.values())
        return reflection_pb2.ServerReflectionResponse(file_descriptor_response=described)
