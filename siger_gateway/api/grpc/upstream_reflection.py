"""What the services behind the gateway tell of themselves, asked when somebody wants to know.

Each is asked through its own cluster (``grpc.reflection_client``). Answers, and that there is none,
are remembered for some seconds: a tool asks for dozens of files in a row, and many tools must not
be a load. A service that fails or is slow only is not heard: the others are answered for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final

from siger_gateway.grpc.protos.grpc_reflection.v1 import reflection_pb2
from siger_gateway.grpc.reflection_client import NoAnswer, ReflectionClient
from siger_gateway.upstream.cluster import Cluster

REMEMBERED: Final = 10.0
"""Seconds. Another version of a service is known that much later."""
TIMEOUT: Final = 2.0
"""Seconds for one question: a tool has a person in front of it."""
MAX_QUESTION: Final = 1024
"""Bytes of a question that is passed on: names, and the longest are a few hundred."""
MAX_KNOWN: Final = 256
"""Answers that are remembered."""
KEEP: Final = 256 * 1024
"""Bytes of an answer that is remembered, so that all of them have 64 MiB at most."""

Message = Any


class Upstreams:
    """:param clusters: those that may be asked now."""

    def __init__(self, clusters: Callable[[], Iterable[Cluster]]) -> None:
        self._clusters = clusters
        self._known: dict[tuple[str, bytes], tuple[float, asyncio.Task[Message | None]]] = {}

    async def services(self, request: Message) -> set[str]:
        """The names of all services of all of them.

        :param request: a ``list_services``.
        """
        answers = await asyncio.gather(*(self._ask(one, request) for one in self._clusters()))
        return {
            service.name
            for answer in answers
            if answer is not None
            for service in answer.list_services_response.service
        }

    async def first(self, request: Message, before: str) -> tuple[str, Message] | None:
        """The first answer that is no error, and who gives it.

        :param before: the name of the one that is asked before the others; "": none is.
        """
        clusters = sorted(self._clusters(), key=lambda one: one.name != before)
        if clusters and clusters[0].name == before:
            answer = await self._ask(clusters[0], request)
            if answer is not None:
                return before, answer
            del clusters[0]
        answers = await asyncio.gather(*(self._ask(one, request) for one in clusters))
        for cluster, answer in zip(clusters, answers, strict=True):
            if answer is not None:
                return cluster.name, answer
        return None

    async def _ask(self, cluster: Cluster, request: Message) -> Message | None:
        """A new copy of what is answered; None: an error, or nothing."""
        question = reflection_pb2.ServerReflectionRequest()
        question.CopyFrom(request)
        question.host = ""  # that is the name of this gateway, if anything
        data = question.SerializeToString(deterministic=True)
        if len(data) > MAX_QUESTION:
            return None
        key = cluster.name, data
        now = asyncio.get_running_loop().time()
        until, task = self._known.get(key, (0.0, None))
        if task is None or until < now:
            task = asyncio.create_task(_answer(cluster, data))
            self._known.pop(key, None)
            while len(self._known) >= MAX_KNOWN:
                del self._known[next(iter(self._known))]  # the oldest
            self._known[key] = now + REMEMBERED, task
        answer = await asyncio.shield(task)  # others may wait for the same
        if answer is None:
            return None
        if answer.ByteSize() > KEEP and self._known.get(key, (0.0, None))[1] is task:
            del self._known[key]
        copy = reflection_pb2.ServerReflectionResponse()
        copy.CopyFrom(answer)
        return copy


async def _answer(cluster: Cluster, question: bytes) -> Message | None:
    try:
        answer = await ReflectionClient(cluster, TIMEOUT).ask(question)
    except NoAnswer:
        return None
    return None if answer.WhichOneof("message_response") in (None, "error_response") else answer
