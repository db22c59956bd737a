"""What a service tells by reflection becomes a set of files, or is refused before it costs much."""

from __future__ import annotations

from typing import Any

import pytest
from google.api import annotations_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from siger_gateway.grpc import reflected_files
from siger_gateway.grpc.http_rules import read_descriptors
from siger_gateway.grpc.path_template import BadRule
from siger_gateway.grpc.reflected_files import ReflectedFiles
from siger_gateway.grpc.transcoding import Transcoder
from tests.descriptors import library


def file(name: str, *imports: str, services: int = 0, methods: int = 1, **more: Any) -> bytes:
    described = FileDescriptorProto(name=name, dependency=imports, **more)
    for number in range(services):
        service = described.service.add(name=f"S{number}")
        for method in range(methods):
            service.method.add(name=f"M{method}", input_type="I", output_type="I")
    return described.SerializeToString()


def refusal(*answers: list[bytes]) -> str:
    """Why the last of them is refused."""
    files = ReflectedFiles()
    for answer in answers[:-1]:
        files.add(answer)
    with pytest.raises(BadRule) as caught:
        files.add(answers[-1])
    return str(caught.value)


def test_what_comes_in_pieces_is_what_protoc_makes() -> None:
    files = ReflectedFiles()
    for one in FileDescriptorSet.FromString(library()).file:
        files.add([one.SerializeToString()])
    assert files.missing() is None
    assert files.declares("library.v1.Library")
    assert files.has_methods("library.v1.Library")
    told = Transcoder(files.descriptors(), ["library.v1.Library"])
    assert told.rules == Transcoder(library()).rules
    assert told.match(b"GET", b"/v1/books/1", b"") is not None


def test_the_same_files_in_another_order_are_the_same_bytes() -> None:
    one, two = file("one"), file("two", "one")
    first, second = ReflectedFiles(), ReflectedFiles()
    first.add([one, two])
    second.add([two, one])
    second.add([one])  # many servers send what they have sent before
    assert first.descriptors() == second.descriptors()
    assert len(second) == 2


def test_what_is_imported_and_not_there_is_missing_but_for_what_google_has() -> None:
    files = ReflectedFiles()
    files.add([file("a", "b", "google/protobuf/any.proto", "google/api/annotations.proto")])
    assert files.missing() == ("b", "a")
    files.add([file("b", "c")])
    assert files.missing() == ("c", "b")
    files.add([file("c")])
    assert files.missing() is None


def test_a_service_without_methods_is_declared_and_has_nothing_to_serve() -> None:
    files = ReflectedFiles()
    files.add([file("a", services=1, methods=0, package="p")])
    assert files.declares("p.S0")
    assert not files.has_methods("p.S0")
    assert not files.declares("p.S1")


def test_what_is_no_file_is_refused() -> None:
    assert refusal([b"\xff\xff"]) == "it tells a file that is none"


def test_two_files_of_one_name_are_refused() -> None:
    assert refusal([file("a")], [file("a", "b")]) == "it tells two different files 'a'"


def test_limits_are_looked_at_before_anything_is_worked_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, limit in {"FILES": 3, "BYTES": 200, "RECEIVED": 500, "IMPORTS": 4}.items():
        monkeypatch.setattr(reflected_files, f"MAX_{name}", limit)
    monkeypatch.setattr(reflected_files, "MAX_RULES", 10)
    files = [file(str(number)) for number in range(4)]
    assert refusal(files) == "it tells more than 3 files"
    assert refusal(*[[one] for one in files]) == "it tells more than 3 files"
    assert refusal([file("x" * 201)]) == "its files have more than 0MiB"
    assert refusal(*[[file("y" * 150)]] * 4) == "its answers have more than 0MiB"
    assert refusal([file("a", *"bcdef")]) == "its files have more than 4 imports"
    for services, methods in ((11, 0), (1, 10), (5, 2)):
        many = file("a", services=services, methods=methods)
        assert refusal([many]) == "its services have more than 10 methods and rules"


def test_rules_for_http_count_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflected_files, "MAX_RULES", 10)
    described = FileDescriptorProto(name="a")
    method = described.service.add(name="S").method.add(name="M")
    rule = method.options.Extensions[annotations_pb2.http]
    rule.get = "/a"
    for number in range(7):
        rule.additional_bindings.add(get=f"/{number}")
    ReflectedFiles().add([described.SerializeToString()])
    rule.additional_bindings.add(get="/b")
    assert "more than 10" in refusal([described.SerializeToString()])


def test_names_that_are_not_ours_are_cut_in_the_log() -> None:
    name = "\n" + "x" * 1000
    assert refusal([file(name)], [file(name, "b")]) == (
        "it tells two different files " + repr("\n" + "x" * 99)
    )


# Sets of files, wherever they are from.


def read(*files: bytes) -> None:
    described = FileDescriptorSet(file=[FileDescriptorProto.FromString(one) for one in files])
    read_descriptors(described.SerializeToString())


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ([file("a", "a")], "a imports a, which imports it"),
        ([file("a", "b"), file("b", "c"), file("c", "a")], "c imports a, which imports it"),
        ([file("a", "b")], "a imports b, which is missing: use --include_imports"),
    ],
)
def test_imports_in_a_circle_or_of_nothing_are_named(files: list[bytes], reason: str) -> None:
    with pytest.raises(BadRule) as caught:
        read(*files)
    assert str(caught.value) == reason


def test_a_long_chain_of_imports_is_read() -> None:
    chain = [file(str(number), str(number + 1)) for number in range(1999)]
    read(*chain, file("1999"))
