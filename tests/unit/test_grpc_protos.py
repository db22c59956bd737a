"""The generated code is what the ``.proto`` files say now."""

from __future__ import annotations

from pathlib import Path

import pytest
from grpc_tools import protoc

from siger_gateway.grpc import protos
from siger_gateway.grpc.protos.grpc_health.v1 import health_pb2
from siger_gateway.grpc.protos.grpc_reflection.v1 import reflection_pb2
from siger_gateway.grpc.protos.grpc_reflection.v1alpha import reflection_pb2 as alpha
from tests.descriptors import INCLUDES

ROOT = Path(protos.__file__).parent
SOURCES = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*.proto"))


@pytest.mark.parametrize("source", SOURCES)
def test_make_proto_would_change_nothing(source: str, tmp_path: Path) -> None:
    includes = [f"-I{path}" for path in (ROOT, *INCLUDES)]
    out = [f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    assert protoc.main(["protoc", *includes, *out, source]) == 0
    generated = {
        path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*_pb2.py*")
    }
    assert len(generated) == 2
    assert generated == {path: (ROOT / path).read_bytes() for path in generated}


def test_all_services_are_there_under_their_names() -> None:
    assert len(SOURCES) == 4
    assert health_pb2.DESCRIPTOR.services_by_name["Health"].full_name == "grpc.health.v1.Health"
    named = [
        file.DESCRIPTOR.services_by_name["ServerReflection"].full_name
        for file in (reflection_pb2, alpha)
    ]
    assert named == [
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ]
