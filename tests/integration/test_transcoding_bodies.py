"""``google.api.HttpBody``: bodies that are no JSON, both ways, whole and in streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf import message_factory
from grpc import aio
from grpc_reflection.v1alpha.reflection import enable_server_reflection

from siger_gateway.grpc.http_rules import read_descriptors
from tests.descriptors import described
from tests.running import BOUND, RunningGateway

pytestmark = pytest.mark.asyncio(loop_scope="module")

POOL = read_descriptors(
    described(
        """
        syntax = "proto3";
        package files.v1;
        import "google/api/annotations.proto";
        import "google/api/httpbody.proto";
        message Named { string name = 1; }
        message Put { string name = 1; google.api.HttpBody content = 2; bool draft = 3; }
        message Stored {
          string name = 1; string type = 2; repeated bytes pieces = 3; bool draft = 4;
        }
        message Got { string name = 1; google.api.HttpBody content = 2; }
        service Files {
          rpc PutFile(Put) returns (Stored) {
            option (google.api.http) = { put: "/v1/files/{name=**}" body: "content" };
          }
          rpc GetFile(Named) returns (google.api.HttpBody) {
            option (google.api.http) = { get: "/v1/files/{name=**}" };
          }
          rpc Turn(google.api.HttpBody) returns (google.api.HttpBody) {
            option (google.api.http) = { post: "/v1/turn" body: "*" };
          }
          rpc Part(Named) returns (Got) {
            option (google.api.http) = { get: "/v1/parts/{name}" response_body: "content" };
          }
          rpc Download(Named) returns (stream google.api.HttpBody) {
            option (google.api.http) = { get: "/v1/downloads/{name}" };
          }
          rpc Upload(stream Put) returns (Stored) {
            option (google.api.http) = { post: "/v1/uploads/{name}" body: "content" };
          }
        }
        """,
        "--include_imports",
    )
).pool
SERVICE = POOL.FindServiceByName("files.v1.Files")


def of_type(name: str, /, **fields: Any) -> Any:
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(name))(**fields)


def body(data: bytes, content_type: str = "image/png") -> Any:
    return of_type("google.api.HttpBody", content_type=content_type, data=data)


class Files:
    """The server. ``go_on`` lets a download of "slow" go on after its first piece."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.came: asyncio.Queue[bytes] = asyncio.Queue()
        self.server = aio.server()
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        handlers = {}
        for method in SERVICE.methods:
            sides = [
                "stream" if one else "unary"
                for one in (method.client_streaming, method.server_streaming)
            ]
            make = getattr(grpc, f"{sides[0]}_{sides[1]}_rpc_method_handler")
            handlers[method.name] = make(
                getattr(self, method.name),
                request_deserializer=message_factory.GetMessageClass(method.input_type).FromString,
                response_serializer=lambda message: message.SerializeToString(),
            )
        generic = grpc.method_handlers_generic_handler(SERVICE.full_name, handlers)
        self.server.add_generic_rpc_handlers((generic,))
        enable_server_reflection([SERVICE.full_name], self.server, pool=POOL)

    async def PutFile(self, request: Any, context: Any) -> Any:
        content = request.content
        return of_type(
            "files.v1.Stored",
            name=request.name,
            type=content.content_type,
            pieces=[content.data],
            draft=request.draft,
        )

    async def GetFile(self, request: Any, context: Any) -> Any:
        if request.name == "gone":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no file: gone")
        types = {"untyped": "", "split": "text/plain\r\nSet-Cookie: a=b"}
        return body(b"\x89PNG\r\n\x00\xff", types.get(request.name, "image/png"))

    async def Turn(self, request: Any, context: Any) -> Any:
        return body(request.data[::-1], request.content_type)

    async def Part(self, request: Any, context: Any) -> Any:
        return of_type("files.v1.Got", name="n", content=body(b"part"))

    async def Download(self, request: Any, context: Any) -> AsyncIterator[Any]:
        if request.name == "refused":
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not yours")
        if request.name == "empty":
            return
        yield body(b"first,", "text/csv")
        if request.name == "slow":
            await self.go_on.wait()
        if request.name == "broken":
            await context.abort(grpc.StatusCode.DATA_LOSS, "the disk is gone")
        yield body(b"second", "ignored/type")

    async def Upload(self, requests: Any, context: Any) -> Any:
        stored = of_type("files.v1.Stored")
        async for request in requests:
            stored.name = request.name
            stored.type = request.content.content_type
            stored.draft = request.draft
            stored.pieces.append(request.content.data)
            await self.came.put(request.content.data)
        return stored


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[tuple[Files, RunningGateway]]:
    files = Files()
    await files.server.start()
    gateway = RunningGateway(
        tmp_path_factory.mktemp("bodies"),
        'consul_address: ""\nnats_address: ""\nservices:\n'
        f"  files: {{endpoints: ['127.0.0.1:{files.port}'], protocol: h2c,\n"
        "          transcode: {descriptors: reflection}}\n"
        "routes: [{name: files, match: {path_prefix: /}, service: files}]\n",
    )
    await gateway.start()
    await gateway.line("descriptors learned")
    yield files, gateway
    await gateway.stop()
    await files.server.stop(None)


World = tuple[Files, RunningGateway]


async def test_a_body_of_any_type_becomes_the_field_that_it_is(world: World) -> None:
    _, gateway = world
    answer = await gateway.request(
        "PUT /v1/files/a/b.png?draft=true", "Content-Type: image/png", body=b"\x89PNG\xff"
    )
    assert answer.json == {
        "name": "a/b.png",
        "type": "image/png",
        "pieces": ["iVBOR/8="],
        "draft": True,
    }
    nothing = await gateway.request("PUT /v1/files/a")
    assert nothing.json == {"name": "a", "pieces": [""]}
    packed = await gateway.request("PUT /v1/files/a", "Content-Encoding: gzip", body=b"\x1f\x8b")
    assert (packed.status, packed.json["reason"]) == (415, "unsupported_media_type")
    wrong = await gateway.request("PUT /v1/files/a?drafty=1", body=b"x")
    assert (wrong.status, wrong.json["errors"][0]["field"]) == (422, "drafty")


async def test_a_body_may_be_the_whole_message_both_ways(world: World) -> None:
    _, gateway = world
    for line in ("POST /v1/turn", "POST /files.v1.Files/Turn"):
        answer = await gateway.request(line, "Content-Type: text/html; charset=utf-8", body=b"{abc")
        assert (answer.status, answer.body) == (200, b"cba{")
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["content-length"] == "4"


async def test_a_body_that_is_returned_is_the_response_as_it_is(world: World) -> None:
    _, gateway = world
    answer = await gateway.get("/v1/files/x.png")
    assert (answer.status, answer.body) == (200, b"\x89PNG\r\n\x00\xff")
    assert answer.headers["content-type"] == "image/png"
    part = await gateway.get("/v1/parts/x")
    assert (part.headers["content-type"], part.body) == ("image/png", b"part")
    untyped = await gateway.get("/v1/files/untyped")
    assert untyped.headers["content-type"] == "application/octet-stream"
    gone = await gateway.get("/v1/files/gone")
    assert (gone.status, gone.json["reason"]) == (404, "grpc_not_found")


async def test_a_content_type_that_would_split_the_head_is_the_services_fault(world: World) -> None:
    _, gateway = world
    answer = await gateway.get("/v1/files/split")
    assert (answer.status, answer.json["reason"]) == (502, "upstream_message")
    assert "set-cookie" not in answer.headers


async def test_a_stream_of_bodies_is_one_body_whose_pieces_come_as_they_are_sent(
    world: World,
) -> None:
    files, gateway = world
    files.go_on.clear()
    async with gateway.connect() as client, asyncio.timeout(BOUND):
        await client.send(b"GET /v1/downloads/slow HTTP/1.1\r\nHost: a\r\n\r\n")
        status, headers = await client.head()
        assert (status, headers["content-type"]) == (200, "text/csv")
        assert await client.reader.readexactly(11) == b"6\r\nfirst,\r\n"
        files.go_on.set()
        assert await client.reader.readuntil(b"0\r\n\r\n") == b"6\r\nsecond\r\n0\r\n\r\n"
    empty = await gateway.get("/v1/downloads/empty")
    assert (empty.status, empty.body) == (200, b"")
    assert empty.headers["content-type"] == "application/octet-stream"


async def test_a_download_that_fails_is_refused_or_broken_off_but_never_complete(
    world: World,
) -> None:
    _, gateway = world
    refused = await gateway.get("/v1/downloads/refused")
    assert (refused.status, refused.json["reason"]) == (403, "grpc_permission_denied")
    async with gateway.connect() as client:
        with pytest.raises(asyncio.IncompleteReadError):
            await client.request("GET /v1/downloads/broken", "X-Request-ID: broken")
    assert "DATA_LOSS" in (await gateway.access("broken"))["detail"]
    method = 'grpc_method="Download",grpc_service="files.v1.Files"'
    counted = f'siger_grpc_calls_total{{grpc_code="DATA_LOSS",{method}}}'
    assert await gateway.metric(counted) == 1


async def test_an_upload_is_sent_on_piece_by_piece(world: World) -> None:
    files, gateway = world
    async with gateway.connect() as client, asyncio.timeout(BOUND):
        await client.send(
            b"POST /v1/uploads/u?draft=true HTTP/1.1\r\nHost: a\r\nContent-Type: video/mp4\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n"
        )
        assert await files.came.get() == b"one"
        await client.send(b"3\r\ntwo\r\n0\r\n\r\n")
        answer = await client.answer()
    assert answer.json == {
        "name": "u",
        "type": "video/mp4",
        "pieces": ["b25l", "dHdv"],
        "draft": True,
    }
    nothing = await gateway.request("POST /v1/uploads/u")
    assert nothing.json == {"name": "u", "pieces": [""]}


async def test_an_upload_that_cannot_be_made_a_message_is_refused_once(world: World) -> None:
    _, gateway = world
    async with gateway.connect() as client, asyncio.timeout(BOUND):
        await client.send(
            b"POST /v1/uploads/u?no=1 HTTP/1.1\r\nHost: a\r\nX-Request-ID: wrong\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
        )
        answer = await client.answer()
    assert (answer.status, answer.json["reason"]) == (422, "invalid_fields")
    await gateway.access("wrong")
    lines = gateway.access_log.read_text().count('"wrong"')
    assert lines == 1
    empty = await gateway.request("POST /v1/uploads/u?no=1")
    assert empty.status == 422
