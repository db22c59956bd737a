"""Handlers of the gateway's own services, out of plain functions over messages.

There are three kinds: one message for one, many for one, many for many. The types are those of
protobuf, which this file needs; see ``service``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from google.protobuf.message import DecodeError

from siger_gateway.errors import GatewayError
from siger_gateway.grpc.framing import BadFrame
from siger_gateway.grpc.service import Context, Handler
from siger_gateway.grpc.status import Code

Message = Any
"""A message of protobuf: generated classes have no useful base for a type checker."""


def unary(kind: type[Message], answer: Callable[[Message, Context], Awaitable[Message]]) -> Handler:
    """:param kind: the class of the request."""

    async def handler(
        messages: AsyncIterator[bytes], context: Context
    ) -> AsyncGenerator[bytes | None, None]:
        reply = await answer(await _only(kind, messages), context)
        yield reply.SerializeToString()

    return handler


def streamed(
    kind: type[Message],
    answer: Callable[[Message, Context], AsyncGenerator[Message | None, None]],
) -> Handler:
    """One request, any number of messages; ``None`` among them is the head, see ``Handler``."""

    async def handler(
        messages: AsyncIterator[bytes], context: Context
    ) -> AsyncGenerator[bytes | None, None]:
        async with aclosing(answer(await _only(kind, messages), context)) as replies:
            async for reply in replies:
                yield None if reply is None else reply.SerializeToString()

    return handler


def conversation(
    kind: type[Message],
    answer: Callable[[AsyncIterator[Message], Context], AsyncGenerator[Message, None]],
) -> Handler:
    """Any number of messages both ways."""

    async def handler(
        messages: AsyncIterator[bytes], context: Context
    ) -> AsyncGenerator[bytes | None, None]:
        async with aclosing(answer(_read(kind, messages), context)) as replies:
            async for reply in replies:
                yield reply.SerializeToString()

    return handler


async def _read(kind: type[Message], messages: AsyncIterator[bytes]) -> AsyncIterator[Message]:
    async for data in messages:
        yield _parsed(kind, data)


async def _only(kind: type[Message], messages: AsyncIterator[bytes]) -> Message:
    """The one message of a call, once it is certain that there is no other."""
    found = [_parsed(kind, data) async for data in _at_most(2, messages)]
    if len(found) != 1:
        raise BadFrame(Code.INTERNAL, "This method takes exactly one message.")
    return found[0]


async def _at_most(count: int, messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for data in messages:
        yield data
        count -= 1
        if not count:
            return


def _parsed(kind: type[Message], data: bytes) -> Message:
    try:
        return kind.FromString(data)
    except DecodeError:
        raise GatewayError("bad_request", f"This is no {kind.DESCRIPTOR.full_name}.") from None
