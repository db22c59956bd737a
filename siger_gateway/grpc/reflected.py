"""``transcode: {descriptors: reflection}``: what a service offers is asked of the service itself.

One task for each such service asks until it knows, again whenever the endpoints change, and every
minute, for a service that is replaced in place tells nobody. What it has learned is taken over as a
whole; an answer that cannot be used changes nothing, and the log says why, once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message import DecodeError

from siger_gateway.config.schema import TranscodeConfig
from siger_gateway.grpc.path_template import BadRule
from siger_gateway.grpc.protos.grpc_reflection.v1 import reflection_pb2
from siger_gateway.grpc.reflection_client import Unanswered, ask
from siger_gateway.grpc.transcoding import JsonStyle, Transcoder
from siger_gateway.upstream.cluster import Cluster

REFRESH: Final = 60.0
"""Seconds from one time that all was well to the next."""
FIRST_RETRY: Final = 1.0
LAST_RETRY: Final = 30.0
"""Seconds to the next time after one that failed: the first, and after many."""
LOOK: Final = 1.0
"""Seconds between two looks at whether the endpoints are still the same."""

MAX_SERVICES: Final = 100
MAX_FILES: Final = 400
"""Each is read after those that it imports: a chain of so many is no trouble for Python's stack."""
MAX_BYTES: Final = 16 * 1024 * 1024
"""Of all files: all of Google's public APIs together have as many."""

OWN: Final = "grpc."
"""With it begin the names of gRPC's own services (health, reflection): no API for JSON clients."""

log = logging.getLogger(__name__)

Files = dict[str, descriptor_pb2.FileDescriptorProto]


class Reflected:
    """What one service has told of itself.

    :param cluster: the service as it is now; raises ``KeyError`` while there is none.
    :param refresh: seconds, see ``REFRESH``; ``first_retry`` likewise.
    """

    def __init__(
        self,
        name: str,
        config: TranscodeConfig,
        cluster: Callable[[str], Cluster],
        refresh: float = REFRESH,
        first_retry: float = FIRST_RETRY,
    ) -> None:
        self.config = config
        self.transcoder: Transcoder | None = None
        """None: it has not answered yet."""
        self._name = name
        self._cluster = cluster
        self._refresh = refresh
        self._first_retry = first_retry
        self._known = b""  # what ``transcoder`` has been made of
        self.trouble = ""
        """Why it could not be learned the last time; empty: it could."""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to ask, in the background."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def stop(self) -> None:
        """Asks no more; what has been learned stays."""
        if self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        self.stop()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        retry, due = self._first_retry, loop.time()
        seen = self._endpoints()
        while True:
            if loop.time() >= due or self._endpoints() is not seen:
                seen = self._endpoints()
                if await self._learn():
                    pause, retry = self._refresh, self._first_retry
                else:
                    pause, retry = retry, min(2 * retry, LAST_RETRY)
                due = loop.time() + pause
            await asyncio.sleep(min(LOOK, self._refresh))

    def _endpoints(self) -> object:
        try:
            return self._cluster(self._name).endpoints
        except KeyError:
            return None

    async def _learn(self) -> bool:
        """Whether it knows now what the service offers."""
        config = self.config
        style = JsonStyle(config.names, config.unset, config.enums)
        try:
            cluster = self._cluster(self._name)
        except KeyError:
            return False
        try:
            data = await describe(cluster, config.services)
            if data != self._known:
                # A large description takes a while, in which requests go on.
                self.transcoder = await asyncio.to_thread(
                    Transcoder, data, config.services, style, config.ignored_parameters
                )
                self._known = data
                fields = {"service": self._name, "bytes": len(data)}
                log.info("descriptors learned by reflection", extra={"fields": fields})
        except (Unanswered, BadRule) as error:
            trouble = str(error)
            if trouble != self.trouble:
                self.trouble = trouble
                fields = {
                    "service": self._name,
                    "error": trouble,
                    "last_good": self.transcoder is not None,
                }
                log.warning("descriptors not learned by reflection", extra={"fields": fields})
            return False
        self.trouble = ""
        return True


async def describe(cluster: Cluster, services: Iterable[str]) -> bytes:
    """A serialized ``FileDescriptorSet``: files that describe the services, and what they import.

    :param services: full names; empty: all that the service has, but for gRPC's own.
    :raises Unanswered: it does not say, or too much.
    """
    names = list(services) or await _offered(cluster)
    if not names:
        raise Unanswered("it lists no services")
    if len(names) > MAX_SERVICES:
        raise Unanswered(f"it lists more than {MAX_SERVICES} services")
    files: Files = {}
    size = 0
    questions = [_question(file_containing_symbol=name) for name in names]
    asked = names
    while questions:
        for name, answer in zip(asked, await ask(cluster, *questions), strict=True):
            if answer.HasField("error_response"):
                raise Unanswered(f"{name}: {answer.error_response.error_message}")
            for data in answer.file_descriptor_response.file_descriptor_proto:
                size += len(data)
                _add(files, data)
        if len(files) > MAX_FILES or size > MAX_BYTES:
            raise Unanswered(f"more than {MAX_FILES} files, or {MAX_BYTES // 2**20} MiB of them")
        before = set(asked)
        asked = _missing(files)
        if before.issuperset(asked) and asked:
            raise Unanswered(f"it has no {asked[0]}")
        questions = [_question(file_by_filename=name) for name in asked]
    made = descriptor_pb2.FileDescriptorSet(file=[files[name] for name in sorted(files)])
    described: bytes = made.SerializeToString(deterministic=True)
    return described


async def _offered(cluster: Cluster) -> list[str]:
    (answer,) = await ask(cluster, _question(list_services="*"))
    listed = answer.list_services_response.service
    return sorted(one.name for one in listed if not one.name.startswith(OWN))


def _question(**what: Any) -> bytes:
    data: bytes = reflection_pb2.ServerReflectionRequest(**what).SerializeToString()
    return data


def _add(files: Files, data: bytes) -> None:
    try:
        file = descriptor_pb2.FileDescriptorProto.FromString(data)
    except DecodeError:
        raise Unanswered("a file that is no FileDescriptorProto") from None
    files.setdefault(file.name, file)


def _missing(files: Files) -> list[str]:
    """What is imported and not there, without what comes with protobuf and google.api."""
    imported = {name for file in files.values() for name in file.dependency}
    return sorted(name for name in imported - files.keys() if not _comes_along(name))


def _comes_along(name: str) -> bool:
    try:
        descriptor_pool.Default().FindFileByName(name)
    except KeyError:
        return False
    return name.startswith("google/")
