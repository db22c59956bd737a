"""The descriptors of a service, from what it tells by reflection.

    list_services               which services there are, unless the configuration names them
    file_containing_symbol      the file of each of them that no earlier file declares
    file_by_filename            what those import, and what that imports: some servers send all of
                                it with the first answer, some a file at a time

What comes is not ours, and may be anything: files are counted, and so are bytes and methods, before
anybody works with them (``ReflectedFiles``). What is left is a ``FileDescriptorSet`` as ``protoc``
would have made it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from google.api import annotations_pb2
from google.protobuf import descriptor_pb2
from google.protobuf.message import DecodeError

from siger_gateway.grpc.http_rules import is_known
from siger_gateway.grpc.path_template import BadRule
from siger_gateway.grpc.protos.grpc_reflection.v1 import reflection_pb2
from siger_gateway.grpc.reflection_client import ReflectionClient

MAX_FILES: Final = 2000
"""Files of one service with all that they import. All of Google's public APIs have 7,000."""
MAX_BYTES: Final = 4 * 1024 * 1024
"""Bytes of these files: what one answer may have. Protobuf works on them in one go, which stops
everything else for a quarter of a second at most."""
MAX_RECEIVED: Final = 64 * 1024 * 1024
"""Bytes of all answers: many servers send the same imports with each."""
MAX_IMPORTS: Final = 20_000
"""Of all files: ten each."""
MAX_SERVICES: Final = 500
"""Services that are asked for, each in a call of its own."""
MAX_RULES: Final = 10_000
"""Services, their methods, and the rules that those have for HTTP."""

_LEFT_OUT: Final = ("grpc.reflection.", "grpc.health.")
"""Services that nearly all servers list, and that are not for JSON clients."""

Message = Any


@dataclass(frozen=True, slots=True)
class Told:
    """What a service has told.

    :param descriptors: a serialized ``FileDescriptorSet``: the same bytes for the same files.
    :param services: full names of those to be served.
    :param undescribed: those that it lists, and has no file of.
    """

    descriptors: bytes
    files: int
    services: tuple[str, ...]
    undescribed: tuple[str, ...]


class ReflectedFiles:
    """The files that have come. Pure: it is told, and says what is missing."""

    def __init__(self) -> None:
        self._files: dict[str, descriptor_pb2.FileDescriptorProto] = {}
        self._raw: dict[str, bytes] = {}
        self._missing: dict[str, str] = {}  # imported file -> who imports it
        self._methods: dict[str, int] = {}  # full name of a service -> how many it has
        self._received = self._bytes = self._imports = self._rules = 0

    def add(self, answer: Sequence[bytes]) -> None:
        """:param answer: serialized ``FileDescriptorProto``s.
        :raises BadRule: they are none, too many or too large, or contradict what came before.
        """
        if len(answer) > MAX_FILES:
            raise BadRule(f"it tells more than {MAX_FILES} files")
        for raw in answer:
            self._received += len(raw)
            if self._received > MAX_RECEIVED:
                raise BadRule(f"its answers have more than {MAX_RECEIVED // 2**20}MiB")
            self._add(raw)

    def _add(self, raw: bytes) -> None:
        try:
            file = descriptor_pb2.FileDescriptorProto.FromString(raw)
        except DecodeError:
            raise BadRule("it tells a file that is none") from None
        name = file.name
        known = self._raw.get(name)
        if known is not None:
            if known != raw:
                raise BadRule(f"it tells two different files {shown(name)}")
            return
        self._bytes += len(raw)
        if len(self._files) >= MAX_FILES:
            raise BadRule(f"it tells more than {MAX_FILES} files")
        self._imports += len(file.dependency)
        if self._imports > MAX_IMPORTS:
            raise BadRule(f"its files have more than {MAX_IMPORTS} imports")
        if self._bytes > MAX_BYTES:
            raise BadRule(f"its files have more than {MAX_BYTES // 2**20}MiB")
        self._files[name] = file
        self._raw[name] = raw
        self._missing.pop(name, None)
        for imported in file.dependency:
            if imported not in self._files and not is_known(imported):
                self._missing.setdefault(imported, name)
        self._rules += len(file.service)  # each costs something, even with nothing in it
        self._check_rules()
        for service in file.service:
            self._count(service)
            full = f"{file.package}.{service.name}" if file.package else service.name
            self._methods[full] = len(service.method)

    def _count(self, service: descriptor_pb2.ServiceDescriptorProto) -> None:
        self._rules += len(service.method)
        self._check_rules()
        for method in service.method:
            options = method.options
            if options.HasExtension(annotations_pb2.http):
                more = options.Extensions[annotations_pb2.http].additional_bindings
                self._rules += 1 + len(more)
        self._check_rules()

    def _check_rules(self) -> None:
        if self._rules > MAX_RULES:
            raise BadRule(f"its services have more than {MAX_RULES} methods and rules")

    def declares(self, service: str) -> bool:
        """Whether a file that has come has the service of this full name."""
        return service in self._methods

    def has_methods(self, service: str) -> bool:
        """Whether there is anything to call."""
        return self._methods.get(service, 0) > 0

    def missing(self) -> tuple[str, str] | None:
        """A file that must be asked for, and one that imports it; None: nothing is missing.

        Files of Google's that come with protobuf are taken from there.
        """
        return next(iter(self._missing.items()), None)

    def descriptors(self) -> bytes:
        """See ``Told``."""
        found = descriptor_pb2.FileDescriptorSet()
        found.file.extend(self._files[name] for name in sorted(self._files))
        return bytes(found.SerializeToString(deterministic=True))

    def __len__(self) -> int:
        return len(self._files)


async def ask_for_files(client: ReflectionClient, wanted: Collection[str]) -> Told:
    """All that is needed to transcode a service.

    :param client: all answers should be those of one endpoint: of two, half could be new.
    :param wanted: full names of services; empty: all that are listed, but for gRPC's own.
    :raises NoAnswer: see ``ReflectionClient``.
    :raises BadRule: what is told cannot be used.
    """
    names = tuple(wanted) or await _listed(client)
    files = ReflectedFiles()
    undescribed = []
    for name in names:
        if files.declares(name):
            continue
        answer = await client.ask(_question(file_containing_symbol=name))
        told = _files_in(answer)
        if told is not None:
            files.add(told)
        if not files.declares(name):
            if wanted:
                raise BadRule(f"it knows no service {name!r}")
            undescribed.append(name)
    while (missing := files.missing()) is not None:
        name, importer = missing
        told = _files_in(await client.ask(_question(file_by_filename=name)))
        if told is not None:
            files.add(told)
        if files.missing() == missing:
            raise BadRule(f"{shown(importer)} imports {shown(name)}, which it does not tell")
    served = tuple(wanted) or tuple(name for name in names if files.has_methods(name))
    if not served:
        raise BadRule(f"no service with a method is described; it lists {_some(names)}")
    return Told(files.descriptors(), len(files), served, tuple(undescribed))


async def _listed(client: ReflectionClient) -> tuple[str, ...]:
    answer = await client.ask(_question(list_services="*"))
    listed = answer.list_services_response.service
    if len(listed) > MAX_SERVICES:
        raise BadRule(f"it lists more than {MAX_SERVICES} services: name those to serve")
    names = dict.fromkeys(one.name for one in listed if not one.name.startswith(_LEFT_OUT))
    if not names:
        raise BadRule("it lists no service")
    return tuple(sorted(names))


def _question(**asked: Any) -> bytes:
    return bytes(reflection_pb2.ServerReflectionRequest(**asked).SerializeToString())


def _files_in(answer: Message) -> Sequence[bytes] | None:
    """None: it does not know them, or says something else."""
    if answer.WhichOneof("message_response") != "file_descriptor_response":
        return None
    files: Sequence[bytes] = answer.file_descriptor_response.file_descriptor_proto
    return files


def shown(name: str) -> str:
    """A name that is not ours, for a log."""
    return repr(name[:100])


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(name[:100] for name in names[:5]) + more
