"""grpc-js with the messages of a ``.proto``, which protobuf.js reads and writes, through a gateway:
its client and a library of grpcio, its library and a client of grpcio, and one that sends JSON,
for which the gateway itself writes the messages."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.message import Message

from tests import descriptors, grpc_js
from tests.conftest import Serve
from tests.grpc_js import GrpcJsClient, GrpcJsService
from tests.grpc_services import client_of, failure, routed
from tests.library_server import SERVICE, Library, of_type
from tests.running import BOUND, RunningGateway

BOOK: dict[str, Any] = {
    "name": "shelves/1/books/2",
    "title": "Ulisses \N{CLOUD}\U0001f608",
    "genre": "POEM",
    "size": "-9007199254740993",
    "price": 0.1,
    "lent": True,
    "cover": "/wD+",
    "author": {"name": "J", "born": -1882, "teacher": {"name": "T"}},
    "tags": ["", "b"],
    "editors": [{}, {"name": "E"}],
    "stock": {"here": 2, "": -1},
    "volumes": {"-7": {"name": "V"}},
    "added": "2023-11-14T22:13:20.000000001Z",
    "loan": "-1.500s",
    "extra": {"a": [None, 1.5, "x", {"b": False}]},
    "anything": None,
    "pages": "0",
    "attached": {"@type": "type.googleapis.com/library.v1.Author", "name": "A"},
    "company": "",
    "edition": 0,
}
"""Every kind of field, with the values that are easily lost."""


@pytest.fixture(autouse=True)
def _needs_grpc_js() -> None:
    if why := grpc_js.missing():
        pytest.skip(why)


@contextlib.asynccontextmanager
async def library_of_grpc_js() -> AsyncIterator[GrpcJsService]:
    service = GrpcJsService()
    try:
        await service.start()
        yield service
    finally:
        await service.stop()


def method(channel: grpc.aio.Channel, name: str) -> Any:
    """The method of the library's, with its types."""
    described = SERVICE.methods_by_name[name]
    kind = ("stream_" if described.client_streaming else "unary_") + (
        "stream" if described.server_streaming else "unary"
    )
    return getattr(channel, kind)(
        f"/{SERVICE.full_name}/{name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=message_factory.GetMessageClass(described.output_type).FromString,
    )


@pytest.mark.parametrize("case", ["books", "streams_of_books", "failures_with_details"])
async def test_a_client_of_grpc_js_and_a_library_of_grpcio_understand_each_other(
    serve: Serve, case: str
) -> None:
    library = Library()
    await library.server.start()
    try:
        gateway = await serve(routed(library))
        client = GrpcJsClient(gateway.port)
        try:
            await client.start()
            client.begin(case)
            await client.passed()
        finally:
            await client.stop()
    finally:
        await library.server.stop(None)


async def test_a_client_of_grpcio_and_a_library_of_grpc_js_understand_each_other(
    serve: Serve,
) -> None:
    async def added() -> AsyncIterator[Message]:
        for title in ("t0", "t1"):
            yield of_type("CreateBookRequest", book={"title": title})

    async with library_of_grpc_js() as library:
        gateway = await serve(routed(library))
        async with client_of(gateway.port) as client:
            watched = method(client.channel, "WatchBooks")(
                of_type("ListBooksRequest", page_size=3), timeout=BOUND
            )
            seen = [(book.title, book.size) async for book in watched]
            assert seen == [("t0", 0), ("t1", 1), ("t2", 2)]
            shelf = await method(client.channel, "AddBooks")(added(), timeout=BOUND)
            assert [book.title for book in shelf.books] == ["t0", "t1"]
            error = await failure(
                method(client.channel, "GetBook")(of_type("GetBookRequest", name="é"))
            )
            assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "no book: é")


async def transcoded(serve: Serve, library: GrpcJsService, folder: Path) -> RunningGateway:
    file = folder / "library.pb"
    file.write_bytes(descriptors.library())
    return await serve(routed(library, service=f", transcode: {{descriptors: {file}}}"))


async def test_json_comes_to_a_library_of_grpc_js_and_back_as_it_was(
    serve: Serve, tmp_path: Path
) -> None:
    async with library_of_grpc_js() as library:
        gateway = await transcoded(serve, library, tmp_path)
        answer = await gateway.request(
            "POST /v1/shelves/s/books",
            "Content-Type: application/json",
            body=json.dumps(BOOK).encode(),
        )
        assert (answer.status, answer.json) == (200, BOOK)


async def test_what_a_library_of_grpc_js_has_not_is_a_problem_in_json(
    serve: Serve, tmp_path: Path
) -> None:
    async with library_of_grpc_js() as library:
        gateway = await transcoded(serve, library, tmp_path)
        answer = await gateway.get("/v1/shelves/s/books/b")
        assert answer.status == 404
        assert answer.json["detail"] == "no book: shelves/s/books/b"
