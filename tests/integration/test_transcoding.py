"""JSON clients of a real gRPC server, through a real gateway: every kind of call, and how it fails.

The service is ``tests/protos/library.proto``, its description what ``protoc`` makes of it.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, ResponseReceived, StreamEnded

from siger_gateway.grpc.framing import frame
from tests.descriptors import described, library
from tests.library_server import Library
from tests.running import BOUND, Answer, Client, RunningGateway, eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = "Content-Type: application/json"
PROBLEM = "application/problem+json"

CONFIG = """
nats_address: ""
consul_address: ""
services:
  library:
    endpoints: ["127.0.0.1:{port}"]
    protocol: h2c
    transcode: {{descriptors: {file}, ignored_parameters: [token]}}
  plain:
    endpoints: ["127.0.0.1:{port}"]
    protocol: h2c
    transcode: {{descriptors: {file}, names: proto, enums: numbers, unset: written}}
  gone:
    endpoints: ["127.0.0.1:{closed}"]
    protocol: h2c
    transcode: {{descriptors: {file}}}
  breaking:
    endpoints: ["127.0.0.1:{breaking}"]
    protocol: h2c
    transcode: {{descriptors: {file}}}
routes:
  - name: breaking
    match: {{path_prefix: /breaking}}
    service: breaking
    strip_prefix: /breaking
  - name: dressed
    match: {{path_prefix: /dressed}}
    service: library
    strip_prefix: /dressed
    security_headers: true
  - name: library
    match: {{path_prefix: /}}
    service: library
    stream_idle_timeout: 2s
  - {{name: plain, match: {{path_prefix: /plain}}, service: plain, strip_prefix: /plain}}
  - {{name: gone, match: {{path_prefix: /gone}}, service: gone, strip_prefix: /gone}}
  - name: hasty
    match: {{path_prefix: /hasty}}
    service: library
    strip_prefix: /hasty
    timeout: 200ms
"""


@dataclass
class World:
    library: Library
    gateway: RunningGateway
    file: Path

    async def get(self, path: str, *fields: str) -> Answer:
        return await self.gateway.get(path, *fields)

    async def send(self, line: str, body: Any, *fields: str) -> Answer:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.gateway.request(line, JSON, *fields, body=raw)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("transcoding")
    file = folder / "library.pb"
    file.write_bytes(library())
    served = Library()
    await served.server.start()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen: connections are refused
        closed = unused.getsockname()[1]
        breaking = await asyncio.start_server(break_off, "127.0.0.1", 0)
        config = CONFIG.format(
            port=served.port,
            file=file,
            closed=closed,
            breaking=breaking.sockets[0].getsockname()[1],
        )
        gateway = RunningGateway(folder, config)
        await gateway.start()
        yield World(served, gateway, file)
        await gateway.stop()
        breaking.close()
    await served.server.stop(None)


async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A service that goes away after the first message of its answer, and a part of the next."""
    connection = H2Connection(H2Configuration(client_side=False))
    connection.initiate_connection()
    while data := await reader.read(65536):
        for event in connection.receive_data(data):
            if isinstance(event, RequestReceived):
                head = [(":status", "200"), ("content-type", "application/grpc")]
                connection.send_headers(event.stream_id, head)
                connection.send_data(event.stream_id, frame(b"\x12\x01a") + b"\x00\x00")
                writer.write(connection.data_to_send())
                await writer.drain()
                writer.close()
                return
        writer.write(connection.data_to_send())


def problem(answer: Answer) -> tuple[int, str]:
    """Status and reason of a problem document."""
    assert answer.headers["content-type"] == PROBLEM
    document = answer.json
    assert document["status"] == answer.status
    assert document["request_id"] == answer.headers["x-request-id"]
    return answer.status, document["reason"]


# Calls with one message each way.


async def test_a_get_with_a_variable_is_answered_with_the_message_as_json(world: World) -> None:
    answer = await world.get("/v1/shelves/7/books/emma")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-length"] == str(len(answer.body))
    assert answer.json == {
        "name": "shelves/7/books/emma",
        "title": "Emma",
        "genre": "NOVEL",
        "size": "9007199254740993",
        "cover": "/wA=",
        "added": "2023-11-14T22:13:20Z",
        "loan": "1.500s",
        "pages": "5",
        "extra": {"a": True},
        "stock": {"here": 2},
    }


async def test_metadata_goes_both_ways_and_fields_of_grpc_stay_behind(world: World) -> None:
    answer = await world.get("/v1/books/emma", "X-Tenant: t1", "Accept-Encoding: br")
    metadata = world.library.calls[-1]
    assert metadata["x-tenant"] == "t1"
    assert metadata["x-forwarded-for"] == "127.0.0.1"
    assert "accept-encoding" not in metadata or "br" not in metadata["accept-encoding"]
    assert answer.headers["x-cost"] == "3"
    assert not [name for name in answer.headers if name.startswith("grpc-")]
    assert "trailer" not in answer.headers


async def test_other_bindings_of_a_method_lead_to_it_too(world: World) -> None:
    assert (await world.get("/v1/files/a/b%2Fc")).json["name"] == "a/b%2Fc"


async def test_the_query_fills_fields_and_one_field_may_be_the_response(world: World) -> None:
    answer = await world.get("/v1/shelves/7/books?pageSize=2&genres=POEM&lent=true&token=x")
    assert answer.json == [
        {"name": "7/0", "genre": "POEM", "lent": True},
        {"name": "7/1", "genre": "POEM", "lent": True},
    ]
    assert (await world.get("/v1/shelves/7/books")).body == b"[]"


async def test_a_field_may_be_the_body(world: World) -> None:
    answer = await world.send("POST /v1/shelves/7/books?dryRun=true", {"title": "Emma"})
    assert answer.json == {"title": "Emma", "tags": ["7", "True"]}


async def test_the_whole_message_may_be_the_body(world: World) -> None:
    body = {"shelf": "3", "book": {"size": "12", "genre": 1, "cover": "_w", "loan": "2s"}}
    answer = await world.send("PATCH /v1/books/emma", body)
    assert answer.json == {
        "name": "books/emma",
        "size": "12",
        "genre": "NOVEL",
        "cover": "/w==",
        "loan": "2s",
        "tags": ["3", "False"],
    }


async def test_a_verb_is_a_method_of_its_own(world: World) -> None:
    answer = await world.send("POST /v1/books/emma:cancel", {})
    assert answer.json["name"] == "emma"
    assert (await world.gateway.request("DELETE /v1/books/emma")).json["name"] == "emma"


async def test_every_method_has_a_path_of_its_own(world: World) -> None:
    answer = await world.send("POST /library.v1.Library/GetBook", {"name": "emma"})
    assert answer.json["name"] == "emma"


async def test_a_prefix_is_stripped_before_methods_are_looked_for(world: World) -> None:
    """And the style of the JSON is the service's."""
    answer = await world.get("/plain/v1/shelves/7/books?page_size=1")
    assert answer.json[0]["genre"] == 0
    whole = await world.send("POST /plain/library.v1.Library/ListBooks", {"shelf": "7"})
    assert whole.json == {"books": [], "next_page_token": "more"}


async def test_filters_of_the_route_add_to_every_answer(world: World) -> None:
    for name in ("emma", "missing", "emma?colour=red"):
        answer = await world.get(f"/dressed/v1/books/{name}")
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_responses_that_are_compressed_are_unpacked(world: World) -> None:
    assert (await world.get("/v1/books/zipped")).json["title"] == "é" * 2000


async def test_a_message_that_unpacks_to_too_much_is_refused(world: World) -> None:
    assert problem(await world.get("/v1/books/bomb")) == (502, "upstream_message")


async def test_calls_are_counted_by_method_and_logged_as_they_were_asked(world: World) -> None:
    series = (
        'siger_grpc_calls_total{grpc_code="NOT_FOUND",grpc_method="CancelLoan",'
        'grpc_service="library.v1.Library"}'
    )
    before = await world.gateway.metric(series)
    answer = await world.send("POST /v1/books/missing:cancel", {})
    assert await world.gateway.metric(series) == before + 1
    line = await world.gateway.access(answer.headers["x-request-id"])
    assert (line["method"], line["path"], line["status"]) == (
        "POST",
        "/v1/books/missing:cancel",
        404,
    )
    assert (line["service"], line["bytes_out"]) == ("library", len(answer.body))


async def test_connections_of_clients_are_kept(world: World) -> None:
    async with world.gateway.connect() as client:
        for name in ("emma", "missing", "emma"):
            answer = await client.request(f"GET /v1/books/{name}")
            assert answer.status == (404 if name == "missing" else 200)
        answer = await client.request("POST /v1/shelves/7/books", JSON, body=b"{")
        assert answer.status == 400
        assert (await client.request("GET /v1/books/emma")).status == 200


async def test_a_body_may_come_in_chunks(world: World) -> None:
    async with world.gateway.connect() as client:
        head = f"POST /v1/shelves/7/books HTTP/1.1\r\nHost: a\r\n{JSON}\r\n"
        await client.send(head.encode() + b'Transfer-Encoding: chunked\r\n\r\n4\r\n{"ti\r\n')
        await client.send(b'b\r\ntle":"abc"}\r\n0\r\n\r\n')
        assert (await client.answer()).json["title"] == "abc"


async def test_clients_may_speak_http2(world: World) -> None:
    status, body = await over_http2(world, "POST", "/v1/shelves/7/books", b'{"title":"x"}')
    assert (status, json.loads(body)["title"]) == ("200", "x")
    status, body = await over_http2(world, "GET", "/v1/books/missing")
    assert (status, json.loads(body)["reason"]) == ("404", "grpc_not_found")


# Requests that are no good.


async def test_a_path_that_no_method_has_is_404(world: World) -> None:
    assert problem(await world.get("/v2/books")) == (404, "no_route")


async def test_a_path_of_other_methods_is_405_and_says_which(world: World) -> None:
    answer = await world.gateway.request("PUT /v1/shelves/7/books")
    assert problem(answer) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, POST"


async def test_every_bad_field_is_named(world: World) -> None:
    body = {"subtitle": "x", "size": "many", "author": {"born": 1.5}}
    answer = await world.send("POST /v1/shelves/7/books", body)
    assert problem(answer) == (422, "invalid_fields")
    assert answer.json["errors"] == [
        {"field": "book.subtitle", "detail": "is not a known field"},
        {"field": "book.size", "detail": "must be an integer of 64 bits"},
        {"field": "book.author.born", "detail": "must be an integer of 32 bits"},
    ]
    assert answer.json["instance"] == "/v1/shelves/7/books"


async def test_what_is_no_json_is_refused(world: World) -> None:
    answer = await world.send("POST /v1/shelves/7/books", b'{"title": ')
    assert problem(answer) == (400, "malformed_json")


async def test_unknown_parameters_are_refused(world: World) -> None:
    answer = await world.get("/v1/books/emma?colour=red")
    assert problem(answer) == (422, "invalid_fields")
    assert answer.json["errors"] == [{"field": "colour", "detail": "is not a known parameter"}]


@pytest.mark.parametrize(
    "field", ["Content-Type: application/x-www-form-urlencoded", "Content-Encoding: gzip"]
)
async def test_a_body_that_is_not_declared_as_json_is_refused(world: World, field: str) -> None:
    answer = await world.gateway.request("POST /v1/shelves/7/books", field, body=b"{}")
    assert problem(answer) == (415, "unsupported_media_type")


async def test_a_body_larger_than_a_message_is_refused(world: World) -> None:
    body = b'{"title":"' + b"a" * 4 * 1024 * 1024 + b'"}'
    assert problem(await world.send("POST /v1/shelves/7/books", body)) == (413, "body_too_large")


# Calls that fail.


async def test_a_failed_call_is_a_problem_with_the_status_of_its_code(world: World) -> None:
    answer = await world.get("/v1/books/missing")
    assert problem(answer) == (404, "grpc_not_found")
    assert answer.json["detail"] == "no book: missing"
    assert answer.json["instance"] == "/v1/books/missing"


async def test_details_and_retry_info_are_told(world: World) -> None:
    answer = await world.get("/v1/books/busy")
    assert problem(answer) == (503, "grpc_unavailable")
    assert answer.headers["retry-after"] == "7"
    retry, bad = answer.json["details"]
    assert retry == {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}
    assert bad["fieldViolations"] == [{"field": "name", "description": "is busy"}]


async def test_a_service_that_is_down_is_502(world: World) -> None:
    answer = await world.get("/gone/v1/books/emma")
    assert problem(answer) == (502, "connect_refused")
    assert answer.json["instance"] == "/gone/v1/books/emma"
    assert "connection_refused" in answer.headers["proxy-status"]


async def test_a_service_that_breaks_off_is_502(world: World) -> None:
    answer = await world.get("/breaking/v1/books/emma")
    assert problem(answer) == (502, "upstream_reset")
    line = await world.gateway.access(answer.headers["x-request-id"])
    assert (line["status"], line["reason"]) == (502, "upstream_reset")


async def test_a_service_that_takes_too_long_is_504(world: World) -> None:
    assert problem(await world.get("/hasty/v1/books/slow")) == (504, "response_timeout")


async def test_clients_may_say_how_long_a_call_may_take(world: World) -> None:
    world.library.cancelled.clear()
    answer = await world.get("/v1/books/slow", "grpc-timeout: 150m")
    assert answer.status == 504
    assert answer.json["reason"] in ("grpc_deadline_exceeded", "response_timeout")
    async with asyncio.timeout(BOUND):
        await world.library.cancelled.wait()


async def test_a_client_that_leaves_ends_its_call(world: World) -> None:
    world.library.slow.clear()
    world.library.cancelled.clear()
    async with world.gateway.connect() as client:
        await client.send(b"GET /v1/books/slow HTTP/1.1\r\nHost: a\r\n\r\n")
        async with asyncio.timeout(BOUND):
            await world.library.slow.wait()
    async with asyncio.timeout(BOUND):
        await world.library.cancelled.wait()


# Streams.


async def watch(client: Client, body: dict[str, Any], *fields: str) -> None:
    raw = json.dumps(body).encode()
    lines = ["POST /library.v1.Library/WatchBooks HTTP/1.1", "Host: a", JSON, *fields]
    lines.append(f"Content-Length: {len(raw)}")
    await client.send("\r\n".join([*lines, "", ""]).encode() + raw)


async def chunk(client: Client) -> bytes:
    async with asyncio.timeout(BOUND):
        size = int(await client.reader.readuntil(b"\r\n"), 16)
        return (await client.reader.readexactly(size + 2))[:-2]


async def test_a_stream_is_a_line_for_each_message(world: World) -> None:
    async with world.gateway.connect() as client:
        await watch(client, {"pageSize": 3})
        answer = await client.answer()
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.body == b'{"title":"t0"}\n{"title":"t1"}\n{"title":"t2"}\n'


async def test_each_message_is_sent_as_soon_as_it_is_there(world: World) -> None:
    world.library.go_on.clear()
    async with world.gateway.connect() as client:
        await watch(client, {"shelf": "waiting", "pageSize": 2})
        assert (await client.head())[0] == 200
        assert await chunk(client) == b'{"title":"t0"}\n'
        world.library.go_on.set()
        assert await chunk(client) == b'{"title":"t1"}\n'


async def test_a_stream_may_be_events_for_who_asks_for_them(world: World) -> None:
    async with world.gateway.connect() as client:
        await watch(client, {"pageSize": 1}, "Accept: text/event-stream")
        answer = await client.answer()
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.body == b'data: {"title":"t0"}\n\nevent: end\ndata: {}\n\n'


async def test_a_stream_without_messages_is_empty(world: World) -> None:
    answer = await world.send("POST /library.v1.Library/WatchBooks", {})
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-type"] == "application/x-ndjson"


async def test_a_stream_that_fails_before_its_first_message_has_the_status(world: World) -> None:
    answer = await world.send("POST /library.v1.Library/WatchBooks", {"shelf": "closed"})
    assert problem(answer) == (403, "grpc_permission_denied")


@pytest.mark.parametrize("accept", ["application/x-ndjson", "text/event-stream"])
async def test_a_stream_that_fails_later_ends_with_the_problem(world: World, accept: str) -> None:
    async with world.gateway.connect() as client:
        await watch(client, {"shelf": "burning", "pageSize": 1}, f"Accept: {accept}")
        answer = await client.answer()
    last = answer.body.rstrip().split(b"\n")[-1]
    if accept == "text/event-stream":
        assert b"\nevent: error\n" in answer.body
        document = json.loads(last.removeprefix(b"data: "))
    else:
        document = json.loads(last)["error"]
    assert (answer.status, document["reason"]) == (200, "grpc_data_loss")
    assert document["detail"] == "the roof is gone"


async def test_a_client_that_does_not_read_stops_the_service(world: World) -> None:
    count, seen = 1000, -1
    world.library.produced = 0

    async def stands_still() -> bool:
        nonlocal seen
        before, seen = seen, world.library.produced
        await asyncio.sleep(0.2)
        return 0 < before == seen == world.library.produced

    async with world.gateway.connect() as client:
        await watch(client, {"shelf": "large", "pageSize": count})
        await eventually(stands_still)
        assert world.library.produced < count
        assert (await client.head())[0] == 200
        lines = 0
        while piece := await chunk(client):
            lines += piece.count(b"\n")
    assert lines == count


async def test_a_stream_that_breaks_off_ends_with_the_problem(world: World) -> None:
    answer = await world.send("POST /breaking/library.v1.Library/WatchBooks", {})
    first, last = answer.body.splitlines()
    assert (answer.status, json.loads(first)) == (200, {"title": "a"})
    assert json.loads(last)["error"]["reason"] == "upstream_reset"


async def test_a_stream_that_falls_silent_ends_with_the_problem(world: World) -> None:
    world.library.go_on.clear()
    async with world.gateway.connect() as client:
        await watch(client, {"shelf": "waiting", "pageSize": 2})
        answer = await client.answer()
    first, last = answer.body.splitlines()
    assert json.loads(first) == {"title": "t0"}
    assert json.loads(last)["error"]["reason"] == "stream_idle_timeout"
    line = await world.gateway.access(answer.headers["x-request-id"])
    assert (line["status"], line["reason"]) == (200, "stream_idle_timeout")


async def test_lines_of_a_request_are_messages_as_they_come(world: World) -> None:
    async with world.gateway.connect() as client:
        head = "POST /v1/shelves/7/books:add HTTP/1.1\r\nHost: a\r\n"
        head += "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
        await client.send(head.encode() + b'10\r\n{"title":"one"}\n\r\n')
        async with asyncio.timeout(BOUND):
            assert await world.library.taken.get() == "one"  # before the body ends
        await client.send(b'f\r\n{"title":"two"}\r\n0\r\n\r\n')
        answer = await client.answer()
    assert answer.json == {"books": [{"title": "one"}, {"title": "two"}]}
    assert answer.headers["content-type"] == "application/json"


async def test_a_bad_line_of_a_request_is_named(world: World) -> None:
    body = b'{"title":"a"}\n{"title":1}\n'
    answer = await world.send("POST /v1/shelves/7/books:add", body)
    assert problem(answer) == (422, "invalid_fields")
    assert answer.json["detail"].startswith("Line 2: ")
    assert answer.json["errors"] == [{"field": "book.title", "detail": "must be a string"}]


async def test_a_stream_of_requests_may_be_empty(world: World) -> None:
    answer = await world.gateway.request("POST /v1/shelves/7/books:add")
    assert answer.json == {}


# gRPC beside it, and reloads.


async def test_calls_in_grpc_pass_as_they_are(world: World) -> None:
    from grpc import aio

    async with aio.insecure_channel(f"127.0.0.1:{world.gateway.port}") as channel:
        call = channel.unary_unary("/library.v1.Library/GetBook")
        assert b"Emma" in await call(b"\x0a\x04emma")


async def test_a_reload_reads_the_descriptors_anew(world: World) -> None:
    before = world.file.read_bytes()
    text = (Path(__file__).parents[1] / "protos" / "library.proto").read_text()
    try:
        world.file.write_bytes(b"no descriptors")
        refused = await world.gateway.reload()
        assert refused["message"] == "reload refused"
        assert f"{world.file}: this is no FileDescriptorSet" in refused["problem"]
        assert (await world.get("/v1/books/emma")).status == 200
        moved = text.replace('"/v1/books/{name}"', '"/v3/books/{name}"')
        world.file.write_bytes(described(moved, "--include_imports"))
        assert (await world.gateway.reload())["message"] == "reloaded"
        assert (await world.get("/v3/books/emma")).status == 200
    finally:
        world.file.write_bytes(before)
        assert (await world.gateway.reload())["message"] == "reloaded"


async def over_http2(world: World, method: str, path: str, body: bytes = b"") -> tuple[str, bytes]:
    """Status and body of one request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.gateway.port)
    connection = H2Connection(H2Configuration(header_encoding="utf-8"))
    connection.initiate_connection()
    fields = [(":method", method), (":scheme", "http"), (":authority", "a"), (":path", path)]
    if body:
        fields.append(("content-type", "application/json"))
    connection.send_headers(1, fields, end_stream=not body)
    if body:
        connection.send_data(1, body, end_stream=True)
    writer.write(connection.data_to_send())
    status, received = "", b""
    async with asyncio.timeout(BOUND):
        while True:
            for event in connection.receive_data(await reader.read(65536)):
                if isinstance(event, ResponseReceived):
                    status = dict(event.headers)[":status"]
                elif isinstance(event, DataReceived):
                    received += event.data
                elif isinstance(event, StreamEnded):
                    writer.close()
                    await writer.wait_closed()
                    return status, received
