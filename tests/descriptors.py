"""The description of a service, from its ``.proto`` file, as ``protoc`` makes it for users."""

from __future__ import annotations

import functools
import tempfile
from importlib.resources import files
from pathlib import Path

from google.api import annotations_pb2
from grpc_tools import protoc

PROTOS = Path(__file__).parent / "protos"
INCLUDES = (str(files("grpc_tools") / "_proto"), str(Path(annotations_pb2.__file__).parents[2]))
"""Where ``google/protobuf`` and ``google/api`` are."""


def described(text: str, *options: str) -> bytes:
    """The ``FileDescriptorSet`` of a file with this text.

    :param options: of ``protoc``, such as ``--include_imports``.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder, "service.proto"), Path(folder, "set")
        source.write_text(text)
        includes = [f"-I{path}" for path in (folder, *INCLUDES)]
        wanted = [f"--descriptor_set_out={result}", *options, str(source)]
        assert protoc.main(["protoc", *includes, *wanted]) == 0
        return result.read_bytes()


@functools.cache
def library() -> bytes:
    """``tests/protos/library.proto``."""
    return described((PROTOS / "library.proto").read_text(), "--include_imports")
