"""The gateway's own services of gRPC beside the jobs: health and reflection, asked by grpcio, with
servers of grpcio behind the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from base64 import b64decode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from grpc_reflection.v1alpha.reflection import enable_server_reflection

from siger_gateway.api.grpc import upstream_reflection
from siger_gateway.grpc.protos.grpc_reflection.v1 import reflection_pb2
from tests.conftest import Serve
from tests.grpc_jobs import BOUND, refused
from tests.nats_server import free_port
from tests.running import RunningGateway

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
OWN = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "siger.jobs.v1.Jobs",
]
REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"


def described(package: str, field: str) -> DescriptorPool:
    """A service ``<package>.Do`` whose message is in another file, ``types.proto``: the name that
    every package here has for it, with a message that has ``field``."""
    types = FileDescriptorProto(name="types.proto", package=package, syntax="proto3")
    message = types.message_type.add(name="Thing")
    message.field.add(name=field, number=1, type=9, label=1)
    service = FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    service.dependency.append("types.proto")
    method = service.service.add(name="Do").method.add(name="It")
    method.input_type = method.output_type = f".{package}.Thing"
    pool = DescriptorPool()
    pool.Add(types)
    pool.Add(service)
    return pool


@contextlib.asynccontextmanager
async def serving(package: str = "", field: str = "name", port: int = 0) -> AsyncIterator[Any]:
    """A server of grpcio that is healthy; with reflection if it has a package. ``port`` is where it
    listens; ``stop`` ends it."""
    server = aio.server()
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    if package:
        enable_server_reflection([f"{package}.Do"], server, pool=described(package, field))
    found = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield type("Server", (), {"port": found, "stop": server.stop})
    finally:
        await server.stop(None)


def config(more: str = "", **ports: int) -> str:
    """A gateway with services of gRPC, each with a route for its package."""
    services = [
        f"{name}: {{protocol: h2c, endpoints: ['127.0.0.1:{port}']{more}}}"
        for name, port in ports.items()
    ]
    routes = [
        f"{{name: {name}, service: {name}, match: {{path_prefix: /{name}.Do}}}}" for name in ports
    ]
    return (
        f'consul_address: ""\nnats_address: ""\n'
        f"services: {{{', '.join(services)}}}\nroutes: [{', '.join(routes)}]\n"
    )


@contextlib.asynccontextmanager
async def health_of(gateway: RunningGateway) -> AsyncIterator[Any]:
    async with aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        yield health_pb2_grpc.HealthStub(channel)


def asked(service: str = "") -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=service)


# Health


async def test_the_gateway_and_its_services_say_how_they_are(serve: Serve) -> None:
    async with serving() as server:
        gateway = await serve(config(up=server.port) + "drain_timeout: 1s\n")
        async with health_of(gateway) as stub:
            assert (await stub.Check(asked())).status == SERVING
            assert (await stub.Check(asked("up"))).status == SERVING
            error = await refused(stub.Check(asked("down")))
            assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "not_found")
            assert (await stub.Watch(asked("down")).read()).status == UNKNOWN


async def test_a_gateway_that_can_do_nothing_is_not_serving(serve: Serve) -> None:
    gateway = await serve(
        f'consul_address: ""\nnats_address: "127.0.0.1:{free_port()}"\nservices: {{}}\n'
    )
    assert (await gateway.get("/health/ready")).status == 503
    async with health_of(gateway) as stub:
        assert (await stub.Check(asked())).status == NOT_SERVING


async def test_a_watch_tells_of_changes_and_of_nothing_else(serve: Serve) -> None:
    checks = ", health_check: {type: grpc, interval: 100ms, timeout: 90ms, unhealthy: 1}"
    async with serving() as server:
        gateway = await serve(config(checks, up=server.port))
        async with health_of(gateway) as stub:
            watch = stub.Watch(asked("up"), timeout=BOUND)
            seen = [(await watch.read()).status]
            await server.stop(None)
            seen.append((await watch.read()).status)
            async with serving(port=server.port):
                seen.append((await watch.read()).status)
            assert seen == [SERVING, NOT_SERVING, SERVING]


async def test_a_drain_is_told_to_those_who_watch_and_ends_the_watch(serve: Serve) -> None:
    gateway = await serve('consul_address: ""\nnats_address: ""\n')
    async with health_of(gateway) as stub:
        watch = stub.Watch(asked(), timeout=BOUND)
        assert (await watch.read()).status == SERVING
        gateway.send(signal.SIGTERM)
        assert (await watch.read()).status == NOT_SERVING
        error = await refused(watch.read())
        assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "draining")
    assert await gateway.wait() == 0


# Reflection


def look(port: int, symbols: dict[str, str]) -> tuple[list[str], dict[str, list[str]]]:
    """What a tool finds at a server: its services, and the fields of the first message of each of
    ``symbols`` (service -> method)."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        fields = {}
        for service, method in symbols.items():
            found = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
            descriptor = found.FindServiceByName(service).methods_by_name[method].input_type
            fields[service] = [one.name for one in descriptor.fields]
        return sorted(database.get_services()), fields


async def test_a_tool_finds_the_services_of_the_gateway_and_of_all_behind_it(serve: Serve) -> None:
    async with serving("one", "first") as one, serving("two", "second") as two:
        gateway = await serve(config(one=one.port, two=two.port))
        services, fields = await asyncio.to_thread(
            look,
            gateway.port,
            {"one.Do": "It", "two.Do": "It", "siger.jobs.v1.Jobs": "Cancel"},
        )
    assert services == [*OWN[:3], "one.Do", OWN[3], "two.Do"]
    # Both have a file types.proto; each service gets its own.
    assert fields == {
        "one.Do": ["first"],
        "two.Do": ["second"],
        "siger.jobs.v1.Jobs": ["job_id"],
    }


async def test_services_that_fail_or_have_no_reflection_are_left_out(serve: Serve) -> None:
    async with serving("one", "first") as one, serving() as mute:
        gateway = await serve(config(down=free_port(), mute=mute.port, one=one.port))
        services, fields = await asyncio.to_thread(look, gateway.port, {"one.Do": "It"})
    assert "one.Do" in services
    assert fields == {"one.Do": ["first"]}


async def converse(gateway: RunningGateway, *questions: dict[str, Any]) -> list[Any]:
    """The answers to some questions, put on one stream in the version v1."""
    requests = [reflection_pb2.ServerReflectionRequest(**one) for one in questions]
    async with aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        ask = channel.stream_stream(
            REFLECTION,
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        return [answer async for answer in ask(iter(requests), timeout=BOUND)]


async def test_what_is_not_known_is_an_answer_and_not_the_end(serve: Serve) -> None:
    gateway = await serve(config())
    unknown, nothing, known, extensions = await converse(
        gateway,
        {"file_containing_symbol": "no.Such", "host": "h"},
        {},
        {"file_containing_symbol": "grpc.health.v1.Health.Check"},
        {"all_extension_numbers_of_type": "siger.jobs.v1.Job"},
    )
    assert unknown.error_response.error_code == 5
    assert (unknown.valid_host, unknown.original_request.host) == ("h", "h")
    assert nothing.error_response.error_code == 3
    assert len(known.file_descriptor_response.file_descriptor_proto) == 1
    assert extensions.all_extension_numbers_response.base_type_name == "siger.jobs.v1.Job"


async def test_a_drain_ends_a_conversation_that_has_nothing_to_answer(serve: Serve) -> None:
    """Tools keep one open as long as they may have another question."""
    gateway = await serve(config() + "drain_timeout: 1h\n")
    async with aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        conversation = channel.stream_stream(REFLECTION)(timeout=BOUND)
        question = reflection_pb2.ServerReflectionRequest(list_services="*")
        await conversation.write(question.SerializeToString())
        assert b"siger.jobs.v1.Jobs" in await conversation.read()
        gateway.send(signal.SIGTERM)
        error = await refused(conversation.read())
        assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "draining")
    assert await gateway.wait() == 0


async def test_a_file_is_that_of_the_service_that_was_asked_for_before(serve: Serve) -> None:
    file = {"file_by_filename": "types.proto"}
    async with serving("one", "first") as one, serving("two", "second") as two:
        gateway = await serve(config(one=one.port, two=two.port))
        answers = await converse(
            gateway,
            {"file_containing_symbol": "two.Do"},
            file,
            {"file_containing_symbol": "one.Do"},
            file,
        )
    files = [
        FileDescriptorProto.FromString(
            answers[at].file_descriptor_response.file_descriptor_proto[0]
        )
        for at in (1, 3)
    ]
    assert [one.package for one in files] == ["two", "one"]


async def test_a_service_is_asked_once_in_a_while_however_many_ask_the_gateway(
    serve: Serve,
) -> None:
    async with serving("one") as one:
        gateway = await serve(config(one=one.port))
        for _ in range(3):
            answers = await converse(gateway, *[{"list_services": "*"}] * 4)
            assert len(answers) == 4
        # v1, which grpcio does not know, and v1alpha.
        asked_so_often = 'siger_upstream_requests_total{outcome="2xx",service="one"}'
        assert await gateway.metric(asked_so_often) == 2
    assert upstream_reflection.REMEMBERED >= 5


async def test_reflection_asks_who_it_is_where_all_routes_do(serve: Serve) -> None:
    secret = "0QmTz7vYp3Lr9sXwK2dHn8cB5fJg1aUe6iRoVtEyMqNxZhWk"
    gateway = await serve(
        config() + f"auth: {{default: required, jwt: {{secret: {secret}, algorithms: [HS256]}}}}\n"
    )
    async with aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        # Without a question: grpcio calls it INTERNAL when it cannot send one any more.
        error = await refused(channel.stream_stream(REFLECTION)(timeout=BOUND).read())
    assert error.code == grpc.StatusCode.UNAUTHENTICATED
    async with health_of(gateway) as stub:
        assert (await stub.Check(asked())).status == SERVING


# Both


async def test_browsers_call_them_by_grpc_web(serve: Serve) -> None:
    gateway = await serve(config())
    answer = await gateway.request(
        "POST /grpc.health.v1.Health/Check",
        "Content-Type: application/grpc-web-text",
        body=b"AAAAAAA=",
    )
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/grpc-web-text"
    body = b"".join(b64decode(answer.body[at : at + 4]) for at in range(0, len(answer.body), 4))
    assert body.startswith(b"\0\0\0\0\2\x08\x01\x80")
    assert body.endswith(b"grpc-status: 0\r\n")
    unknown = await gateway.request(
        "POST /grpc.health.v1.Health/Check",
        "Content-Type: application/grpc-web",
        body=b"\0\0\0\0\3\x0a\1x",
    )
    assert unknown.body.startswith(b"\x80")
    assert b"grpc-status: 5\r\n" in unknown.body


async def test_methods_that_there_are_not_are_unimplemented(serve: Serve) -> None:
    gateway = await serve(config())
    async with aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        for path in ("/siger.jobs.v1.Jobs/Destroy", "/grpc.health.v1.Health/List", "/a.B/C"):
            error = await refused(channel.unary_unary(path)(b""))
            assert error.code == grpc.StatusCode.UNIMPLEMENTED


async def test_a_template_of_the_file_does_not_take_their_paths(serve: Serve) -> None:
    routes = "{name: all, match: {path: '/{a}/{b}'}, direct_response: {status: 418}}"
    gateway = await serve(f'consul_address: ""\nnats_address: ""\nroutes: [{routes}]\n')
    assert (await gateway.get("/x/y")).status == 418
    async with health_of(gateway) as stub:
        assert (await stub.Check(asked())).status == SERVING
    assert (await gateway.get("/grpc.health.v1.Health/Check")).status == 404


WITHOUT_PROTOBUF = """
import importlib.abc, sys
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "google":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
from siger_gateway.cli import main
main(sys.argv[1:])
"""


def test_without_protobuf_there_are_none_of_them(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text('consul_address: ""\nnats_address: ""\n')

    def run(command: str, *program: str) -> subprocess.CompletedProcess[str]:
        arguments = [sys.executable, *program, command, "--config", str(path)]
        return subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=60)

    assert "/grpc.health.v1.Health/Check" in run("routes", "-m", "siger_gateway").stdout
    without = ("-c", WITHOUT_PROTOBUF)
    routes, checked = run("routes", *without), run("check", *without)
    assert "/api/v1/jobs" in routes.stdout
    assert "grpc" not in routes.stdout
    assert (checked.returncode, checked.stderr) == (0, ""), checked
