"""A server of grpcio's own that describes itself: by grpcio-reflection, or by what a test tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc import aio
from grpc_reflection.v1alpha.reflection import enable_server_reflection

from siger_gateway.grpc.http_rules import read_descriptors
from siger_gateway.grpc.protos.grpc_reflection.v1 import reflection_pb2
from tests.descriptors import described

V1 = "grpc.reflection.v1.ServerReflection"
V1ALPHA = "grpc.reflection.v1alpha.ServerReflection"

Answering = Callable[[Any], Any]
"""From a ``ServerReflectionRequest`` to the response."""


def things(*rules: str, package: str = "things.v1") -> bytes:
    """The descriptors of a service ``Things`` whose methods, ``Get0`` and so on, take and return a
    ``Thing``: each with a rule, such as ``get: "/v1/{thing_id}"``."""
    methods = "".join(
        f"rpc Get{number}(Thing) returns (Thing) {{ option (google.api.http) = {{ {rule} }}; }}"
        for number, rule in enumerate(rules)
    )
    text = f"""
        syntax = "proto3";
        package {package};
        import "google/api/annotations.proto";
        message Thing {{ string thing_id = 1; string name = 2; }}
        service Things {{ {methods} }}
        """
    return described(text, "--include_imports")


def error(code: int) -> Any:
    """An error of reflection's own."""
    found = reflection_pb2.ErrorResponse(error_code=code, error_message="no")
    return reflection_pb2.ServerReflectionResponse(error_response=found)


def listing(*services: str) -> Any:
    answer = reflection_pb2.ServerReflectionResponse()
    for name in services:
        answer.list_services_response.service.add(name=name)
    return answer


def telling(*files: descriptor_pb2.FileDescriptorProto) -> Any:
    raw = [file.SerializeToString() for file in files]
    told = reflection_pb2.FileDescriptorResponse(file_descriptor_proto=raw)
    return reflection_pb2.ServerReflectionResponse(file_descriptor_response=told)


def a_file_at_a_time(descriptors: bytes, *services: str) -> Answering:
    """As tonic answers: with what was asked for, and nothing that it imports."""
    found = descriptor_pb2.FileDescriptorSet.FromString(descriptors).file

    def answer(request: Any) -> Any:
        if request.HasField("list_services"):
            return listing(*services)
        for file in found:
            if file.name == request.file_by_filename or any(
                f"{file.package}.{one.name}" == request.file_containing_symbol
                for one in file.service
            ):
                return telling(file)
        return error(5)

    return answer


class DescribedServer:
    """The services of ``descriptors``: each call returns its request, as a message of the type that
    the method has.

    :param reflection: how it describes itself: by grpcio's own means, by an answer of the test's
        (in v1), or not at all. Or the status with which it refuses.
    :param port: 0: a free one.
    """

    def __init__(
        self,
        descriptors: bytes,
        reflection: Answering | grpc.StatusCode | bool = True,
        port: int = 0,
    ) -> None:
        self.asked: list[Any] = []
        """Questions of reflection that a test's own answers were for."""
        self._server = aio.server(options=[("grpc.so_reuseport", 0)])
        pool = read_descriptors(descriptors).pool
        names = []
        for file in descriptor_pb2.FileDescriptorSet.FromString(descriptors).file:
            for service in file.service:
                names.append(f"{file.package}.{service.name}")
                self._add(pool, names[-1])
        if reflection is True:
            own = ["grpc.health.v1.Health", V1ALPHA]
            enable_server_reflection([*names, *own], self._server, pool=pool)
        elif reflection is not False:
            self._describe(reflection)
        self.port: int = self._server.add_insecure_port(f"127.0.0.1:{port}")

    async def __aenter__(self) -> DescribedServer:
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(None)

    def _add(self, pool: DescriptorPool, name: str) -> None:
        async def echo(request: Any, context: Any) -> Any:
            return request

        handlers = {}
        for method in pool.FindServiceByName(name).methods:
            kind = message_factory.GetMessageClass(method.input_type)
            handlers[method.name] = grpc.unary_unary_rpc_method_handler(
                echo,
                request_deserializer=kind.FromString,
                response_serializer=lambda message: message.SerializeToString(),
            )
        generic = grpc.method_handlers_generic_handler(name, handlers)
        self._server.add_generic_rpc_handlers((generic,))

    def _describe(self, reflection: Answering | grpc.StatusCode) -> None:
        async def info(requests: Any, context: Any) -> Any:
            async for request in requests:
                self.asked.append(request)
                if isinstance(reflection, grpc.StatusCode):
                    await context.abort(reflection, "no")
                else:
                    yield reflection(request)

        handler = grpc.stream_stream_rpc_method_handler(
            info,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )
        generic = grpc.method_handlers_generic_handler(V1, {"ServerReflectionInfo": handler})
        self._server.add_generic_rpc_handlers((generic,))
