"""The files of descriptors that ``services.NAME.transcode`` names: checked, and read for serving.

protobuf is an extra, and takes time and memory to load: it is imported here, as soon as a service
is transcoded, and not at the top of any file that a gateway without such services needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from siger_gateway.config.problem import NOWHERE, ConfigError, Mark, Problem, Report, join
from siger_gateway.config.schema import Config, ServiceConfig, TranscodeConfig

if TYPE_CHECKING:
    from siger_gateway.grpc.transcoding import Transcoder

MAX_FILE: Final = 64 * 1024 * 1024
"""Bytes. All of Google's public APIs together have 15 MiB; /dev/zero has more."""

EXTRA: Final = 'needs protobuf: pip install "siger-gateway[grpc]"'


class Unusable(Exception):
    """A service cannot be transcoded; the text says why.

    :param part: the key of ``transcode`` that is to blame.
    """

    def __init__(self, part: str, reason: str) -> None:
        super().__init__(reason)
        self.part = part
        self.reason = reason


def check_transcoding(config: Config, report: Report, where: Callable[[str], Mark]) -> None:
    """Says of every service that is to be transcoded, and cannot be, why; see ``load.Check``."""
    for name, service in config.services.items():
        key = join(join("services", name), "transcode")
        if not service.transcode.descriptors or not report.is_good_below(key):
            continue
        try:
            _read(service.transcode)
        except Unusable as problem:
            at = join(key, problem.part)
            report.add(where(at), at, problem.reason)


def transcoders(services: Mapping[str, ServiceConfig]) -> dict[str, Transcoder]:
    """By name of the service; empty, and nothing is imported, if none is described by a file.

    :raises ConfigError: a file cannot be used; ``check_transcoding`` has said so, unless it has
        changed since.
    """
    found: dict[str, Transcoder] = {}
    for name, service in services.items():
        config = service.transcode
        if config.descriptors:
            try:
                read = _read(config)
            except Unusable as problem:
                key = join(join("services", name), f"transcode.{problem.part}")
                at = (NOWHERE.line, NOWHERE.column)
                told = Problem(config.descriptors, *at, key, problem.reason)
                raise ConfigError((told,)) from None
            if read is not None:
                found[name] = read
    return found


def _read(config: TranscodeConfig) -> Transcoder | None:
    """None: there is no file, the service describes itself.

    :raises Unusable: see there.
    """
    try:
        from siger_gateway.grpc.path_template import BadRule
        from siger_gateway.grpc.transcoding import JsonStyle, Transcoder, UnknownService
    except ImportError:
        raise Unusable("descriptors", EXTRA) from None
    if config.by_reflection:
        return None
    data = _bytes_of(config.descriptors)
    style = JsonStyle(config.names, config.unset, config.enums)
    try:
        return Transcoder(data, config.services, style, config.ignored_parameters)
    except UnknownService as error:
        raise Unusable("services", f"{config.descriptors}: {error}") from None
    except BadRule as error:
        raise Unusable("descriptors", f"{config.descriptors}: {error}") from None


def _bytes_of(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        raise Unusable("descriptors", f"{path}: there is no such file") from None
    except OSError as error:
        reason = error.strerror or "unknown error"
        raise Unusable("descriptors", f"{path}: cannot be read: {reason}") from None
    if len(data) > MAX_FILE:
        raise Unusable("descriptors", f"{path}: larger than {MAX_FILE // 2**20}MiB")
    return data
