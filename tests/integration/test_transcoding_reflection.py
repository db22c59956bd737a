"""``transcode: {descriptors: reflection}``: a service tells its rules itself, once it is there."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc import aio
from grpc_reflection.v1alpha import reflection_pb2

from siger_gateway.config.schema import EndpointSpec, ServiceConfig, TranscodeConfig
from siger_gateway.grpc import reflected
from siger_gateway.grpc.path_template import BadRule
from siger_gateway.grpc.reflected import Reflected, describe
from siger_gateway.grpc.reflection_client import Unanswered
from siger_gateway.grpc.transcoding import Transcoder
from siger_gateway.telemetry.metrics import ServiceStats
from siger_gateway.upstream.cluster import Cluster
from tests.conftest import Serve
from tests.integration.test_grpc_services import serving
from tests.library_server import Library
from tests.peers import free_port
from tests.running import eventually

CONFIG = """
nats_address: ""
consul_address: ""
services:
  library:
    endpoints: ["127.0.0.1:{port}"]
    protocol: h2c
    transcode: {{descriptors: reflection{more}}}
routes:
  - {{name: library, match: {{path_prefix: /}}, service: library}}
"""
BOOK = "/v1/shelves/7/books/1"


async def test_a_service_that_starts_after_the_gateway_tells_its_rules(serve: Serve) -> None:
    port = free_port()
    gateway = await serve(CONFIG.format(port=port, more=""))
    early = await gateway.get(BOOK)
    assert (early.status, early.json["reason"]) == (503, "not_described")
    library = Library(port, reflected=True)
    await library.server.start()
    try:

        async def served() -> bool:
            return (await gateway.get(BOOK)).status == 200

        await eventually(served)
        assert (await gateway.get(BOOK)).json["name"] == "shelves/7/books/1"
        assert (await gateway.get("/v1/nothing")).json["reason"] == "no_route"
        await gateway.line("descriptors learned by reflection")
        await gateway.reload()
        assert (await gateway.get(BOOK)).status == 200, "a reload need not ask again"
    finally:
        await library.server.stop(None)


async def test_a_service_that_is_named_and_not_known_there_is_told_in_the_log(serve: Serve) -> None:
    library = Library(reflected=True)
    await library.server.start()
    try:
        more = ", services: [library.v1.Library, library.v1.Reading]"
        gateway = await serve(CONFIG.format(port=library.port, more=more))
        told = await gateway.line("descriptors not learned by reflection")
        assert told["error"].startswith("library.v1.Reading: ")
        assert (await gateway.get(BOOK)).json["reason"] == "not_described"
        gateway.write_config(
            CONFIG.format(port=library.port, more=more.replace(", library.v1.Reading", ""))
        )
        await gateway.reload()
        await gateway.line("descriptors learned by reflection")
        assert (await gateway.get(BOOK)).status == 200
    finally:
        await library.server.stop(None)


async def test_calls_in_grpc_pass_to_a_service_without_reflection(serve: Serve) -> None:
    library = Library()
    await library.server.start()
    try:
        gateway = await serve(CONFIG.format(port=library.port, more=""))

        told = await gateway.line("descriptors not learned by reflection")
        assert told["error"] == "it has no grpc.reflection"
        assert (await gateway.get(BOOK)).json["reason"] == "not_described"
        async with aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
            with pytest.raises(aio.AioRpcError) as told_by_service:
                await channel.unary_unary("/library.v1.Library/Nothing")(b"")
        assert told_by_service.value.code() == grpc.StatusCode.UNIMPLEMENTED
    finally:
        await library.server.stop(None)


def one_service(port: int) -> Cluster:
    config = ServiceConfig(endpoints=(EndpointSpec(f"127.0.0.1:{port}"),), protocol="h2c")
    return Cluster("service", config, ServiceStats())


async def test_another_version_is_learned_and_until_then_the_last_one_counts() -> None:
    port = free_port()
    cluster = one_service(port)
    asked = Reflected(
        "service", TranscodeConfig("reflection"), lambda _: cluster, refresh=0.02, first_retry=0.02
    )
    asked.start()

    async def knows(name: str) -> bool:
        if asked.transcoder is None:
            return False
        thing = asked.transcoder.pool.FindMessageTypeByName("it.Thing")
        return list(thing.fields_by_name) == [name]

    async def failed() -> bool:
        return bool(asked.trouble)

    try:
        async with serving("it", "name", port):
            await eventually(lambda: knows("name"))
        first: Transcoder | None = asked.transcoder
        await eventually(failed)
        assert asked.transcoder is first
        async with serving("it", "title", port):
            await eventually(lambda: knows("title"))
            assert not asked.trouble
    finally:
        await asked.close()
        await cluster.close()


Answers = Callable[[Any], Iterable[Any]]


@contextlib.asynccontextmanager
async def saying(answer: Answers) -> AsyncIterator[Cluster]:
    """A service whose reflection answers so."""

    async def info(questions: Any, context: Any) -> AsyncIterator[Any]:
        async for question in questions:
            for one in answer(question):
                yield one

    server = aio.server()
    handler = grpc.stream_stream_rpc_method_handler(
        info,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    generic = grpc.method_handlers_generic_handler(
        "grpc.reflection.v1alpha.ServerReflection", {"ServerReflectionInfo": handler}
    )
    server.add_generic_rpc_handlers((generic,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    cluster = one_service(port)
    try:
        yield cluster
    finally:
        await cluster.close()
        await server.stop(None)


def files(*those: bytes) -> Any:
    answer = reflection_pb2.ServerReflectionResponse()
    answer.file_descriptor_response.file_descriptor_proto.extend(those)
    return answer


def file(name: str, *imports: str) -> bytes:
    made = FileDescriptorProto(name=name, dependency=imports, package=name, syntax="proto3")
    return bytes(made.SerializeToString())


def names(count: int) -> Any:
    answer = reflection_pb2.ServerReflectionResponse()
    for number in range(count):
        answer.list_services_response.service.add(name=f"service{number}")
    return answer


def refusal() -> Any:
    answer = reflection_pb2.ServerReflectionResponse()
    answer.error_response.error_message = "no such thing"
    return answer


def endless(question: Any) -> Iterable[Any]:
    """Each file imports one more."""
    number = len(question.file_by_filename)
    yield files(file("x" * number, "x" * (number + 1)))


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda _: [], "0 answers to 1 questions"),
        (lambda _: [refusal()], "service: no such thing"),
        (lambda _: [files(b"\xff")], "no FileDescriptorProto"),
        (lambda _: [files(file("a", "b"))], "it has no b"),
        (endless, "more than 400 files"),
        (lambda _: [files(bytes(5_000_000))], "upstream_protocol"),
    ],
    ids=["nothing", "refused", "garbage", "an import that is missing", "endless", "too much"],
)
async def test_answers_that_cannot_be_used_end_in_a_clear_word(answer: Answers, why: str) -> None:
    async with saying(answer) as cluster:
        with pytest.raises(Unanswered, match=why):
            await describe(cluster, ["service"])


async def test_a_list_that_is_too_long_is_not_asked_for() -> None:
    async with saying(lambda _: [names(reflected.MAX_SERVICES + 1)]) as cluster:
        with pytest.raises(Unanswered, match="more than 100 services"):
            await describe(cluster, [])
    async with saying(lambda _: [names(0)]) as cluster:
        with pytest.raises(Unanswered, match="it lists no services"):
            await describe(cluster, [])


async def test_files_that_import_each_other_are_no_description() -> None:
    async with saying(lambda _: [files(file("a", "b"), file("b", "a"))]) as cluster:
        data = await describe(cluster, ["a"])
    with pytest.raises(BadRule):
        Transcoder(data)
