"""The library of ``tests/protos/library.proto`` as a server of grpcio's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc import aio

from siger_gateway.grpc.http_rules import read_descriptors
from tests.descriptors import library

POOL = read_descriptors(library()).pool
SERVICE = POOL.FindServiceByName("library.v1.Library")
HUGE = 5 * 1024 * 1024
"""Bytes of a title that no message may have; compressed, it is small."""


def of_type(kind: str, /, **fields: Any) -> Message:
    described = POOL.FindMessageTypeByName(f"library.v1.{kind}")
    return message_factory.GetMessageClass(described)(**fields)


class Library:
    """Answers by the names of what it is asked for; ``calls`` are the metadata of each call."""

    def __init__(self) -> None:
        self.server = aio.server()
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.calls: list[dict[str, Any]] = []
        self.go_on = asyncio.Event()
        """What ``WatchBooks`` of the shelf "waiting" waits for before its second book."""
        self.slow = asyncio.Event()
        """A call to the book "slow" has come."""
        self.cancelled = asyncio.Event()
        """Such a call has been cancelled, or has run out of time."""
        self.produced = 0
        """Books that ``WatchBooks`` has told."""
        self.taken: asyncio.Queue[str] = asyncio.Queue()
        """Titles of the books that ``AddBooks`` has read."""
        answers: dict[str, Callable[..., Any]] = {
            "GetBook": self._get,
            "DeleteBook": self._get,
            "CancelLoan": self._get,
            "Check": self._get,
            "Special": self._get,
            "ListBooks": self._list,
            "CreateBook": self._create,
            "UpdateBook": self._create,
            "WatchBooks": self._watch,
            "AddBooks": self._add,
        }
        handlers = {name: _handler(name, one) for name, one in answers.items()}
        generic = grpc.method_handlers_generic_handler(SERVICE.full_name, handlers)
        self.server.add_generic_rpc_handlers((generic,))

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _note(self, context: Any) -> None:
        self.calls.append(dict(context.invocation_metadata()))

    async def _get(self, request: Any, context: Any) -> Message:
        self._note(context)
        name = request.name.rpartition("/")[2]
        if name == "missing":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no book: missing")
        if name == "busy":
            await _abort_with_details(context)
        if name == "slow":
            self.slow.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.set()
        if name in ("zipped", "bomb"):
            context.set_compression(grpc.Compression.Gzip)
        await context.send_initial_metadata((("x-cost", "3"),))
        title = "a" * HUGE if name == "bomb" else "é" * 2000 if name == "zipped" else "Emma"
        return of_type(
            "Book",
            name=request.name,
            title=title,
            genre="NOVEL",
            size=2**53 + 1,
            cover=b"\xff\x00",
            added={"seconds": 1_700_000_000},
            loan={"seconds": 1, "nanos": 500_000_000},
            pages={"value": 5},
            extra={"a": True},
            stock={"here": 2},
        )

    async def _list(self, request: Any, context: Any) -> Message:
        self._note(context)
        names = [f"{request.shelf}/{number}" for number in range(request.page_size)]
        genres = request.genres or [0]
        books = [{"name": name, "genre": genres[-1], "lent": request.lent} for name in names]
        return of_type("ListBooksResponse", books=books, next_page_token="more")

    async def _create(self, request: Any, context: Any) -> Message:
        self._note(context)
        book = of_type("Book")
        book.CopyFrom(request.book)
        book.tags.extend([request.shelf, str(request.dry_run)])  # type: ignore[attr-defined]
        return book

    async def _watch(self, request: Any, context: Any) -> AsyncIterator[Message]:
        self._note(context)
        if request.shelf == "closed":
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not today")
        for number in range(request.page_size):
            if number and request.shelf == "waiting":
                await self.go_on.wait()
            self.produced += 1
            title = "a" * 65536 if request.shelf == "large" else f"t{number}"
            yield of_type("Book", title=title)
        if request.shelf == "burning":
            await context.abort(grpc.StatusCode.DATA_LOSS, "the roof is gone")

    async def _add(self, requests: Any, context: Any) -> Message:
        self._note(context)
        books = []
        async for request in requests:
            books.append(request.book)
            await self.taken.put(request.book.title)
        return of_type("ListBooksResponse", books=books)


async def _abort_with_details(context: Any) -> None:
    status = status_pb2.Status(code=14, message="later")
    status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay={"seconds": 7}))
    violation = {"field": "name", "description": "is busy"}
    status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    await context.abort(grpc.StatusCode.UNAVAILABLE, "later")


def _handler(name: str, answer: Callable[..., Any]) -> Any:
    method = SERVICE.methods_by_name[name]
    makers = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
    }
    return makers[method.client_streaming, method.server_streaming](
        answer,
        request_deserializer=message_factory.GetMessageClass(method.input_type).FromString,
        response_serializer=lambda message: message.SerializeToString(),
    )
