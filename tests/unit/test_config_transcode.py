"""``services.NAME.transcode``: what cannot be used is found by `check`, with file, line and key."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from siger_gateway import cli
from siger_gateway.config.load import ConfigError, Loaded, loads
from siger_gateway.grpc import descriptor_files
from siger_gateway.grpc.descriptor_files import check_transcoding, transcoders
from tests.descriptors import described, library

TWICE = """
syntax = "proto3";
package p;
import "google/api/annotations.proto";
message M { string a = 1; }
service S {
  rpc A(M) returns (M) { option (google.api.http) = { get: "/v1/{a}" }; }
  rpc B(M) returns (M) { option (google.api.http) = { get: "/v1/{a=*}" }; }
}
"""
MESSAGES = 'syntax = "proto3"; package p; message M { string a = 1; }'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("descriptors")
    (folder / "good.pb").write_bytes(library())
    (folder / "twice.pb").write_bytes(described(TWICE, "--include_imports"))
    (folder / "messages.pb").write_bytes(described(MESSAGES))
    (folder / "text.pb").write_bytes(b"syntax = 'proto3';")
    (folder / "empty.pb").write_bytes(b"")
    return folder


def read(transcode: str, protocol: str = "h2c") -> Loaded:
    service = f"services:\n  s:\n    endpoints: ['a:1']\n    protocol: {protocol}\n"
    return loads(f"{service}    transcode:\n{transcode}", "f", {}, [check_transcoding])


def problem(transcode: str, protocol: str = "h2c") -> str:
    with pytest.raises(ConfigError) as caught:
        read(transcode, protocol)
    (one,) = caught.value.problems
    return f"{one.line} {one.key}: {one.reason}"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("none.pb", "there is no such file"),
        ("", "cannot be read: Is a directory"),
        ("text.pb", "this is no FileDescriptorSet, as protoc --descriptor_set_out makes"),
        ("empty.pb", "no service with a method is described in it"),
        ("messages.pb", "no service with a method is described in it"),
        ("twice.pb", "p.S.B and p.S.A want the same GET requests"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_key(
    folder: Path, name: str, reason: str
) -> None:
    path = folder / name
    assert problem(f"      descriptors: {path}") == (
        f"6 services.s.transcode.descriptors: {path}: {reason}"
    )


def test_a_service_that_is_not_described_is_named_with_those_that_are(folder: Path) -> None:
    path = folder / "good.pb"
    text = f"      descriptors: {path}\n      services: [library.v1.Librari]"
    assert problem(text) == (
        f"7 services.s.transcode.services: {path}: there is no service 'library.v1.Librari'; "
        "there are: library.v1.Library"
    )


def test_without_protobuf_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "siger_gateway.grpc.transcoding", None)
    text = f"      descriptors: {folder / 'good.pb'}"
    assert problem(text) == f"6 services.s.transcode.descriptors: {descriptor_files.EXTRA}"


def test_keys_without_descriptors_have_no_effect() -> None:
    assert problem("      names: proto") == (
        '5 services.s.transcode: needs "descriptors"; without, nothing is transcoded'
    )


def test_reflection_needs_no_file_and_no_service_that_answers(tmp_path: Path) -> None:
    config = read("      descriptors: reflection\n      refresh: 5m").config
    assert config.services["s"].transcode.refresh == 300.0
    assert transcoders(config.services) == {}
    path = tmp_path / "c.yaml"
    path.write_text(
        "services: {s: {endpoints: ['a:1'], protocol: h2c, transcode: {descriptors: reflection}}}"
    )
    assert cli.main(["check", "--config", str(path)]) == 0


def test_reflection_needs_http2_and_protobuf(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 'needs "protocol: h2c" or "h2"' in problem("      descriptors: reflection", "http")
    monkeypatch.setitem(sys.modules, "siger_gateway.grpc.transcoding", None)
    said = problem("      descriptors: reflection")
    assert said == f"6 services.s.transcode.descriptors: {descriptor_files.EXTRA}"


def test_a_file_is_not_refreshed_by_itself(folder: Path) -> None:
    text = f"      descriptors: {folder / 'good.pb'}\n      refresh: 5m"
    assert problem(text) == (
        '7 services.s.transcode.refresh: is for "descriptors: reflection"; files come by a reload'
    )


def test_the_service_has_to_speak_http2(folder: Path) -> None:
    assert 'needs "protocol: h2c" or "h2"' in problem(
        f"      descriptors: {folder / 'good.pb'}", "http"
    )


def test_check_looks_into_the_file(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.yaml"
    text = "services:\n  s: {endpoints: ['a:1'], protocol: h2c, transcode: {descriptors: %s}}\n"
    path.write_text(text % (folder / "good.pb"))
    assert cli.main(["check", "--config", str(path)]) == 0
    path.write_text(text % (folder / "text.pb"))
    assert cli.main(["check", "--config", str(path)]) == 2
    said = capsys.readouterr().err
    assert f"{path}:2:" in said
    assert "services.s.transcode.descriptors: " in said


def test_only_services_that_say_so_are_transcoded(folder: Path) -> None:
    config = read(f"      descriptors: {folder / 'good.pb'}").config
    plain = loads("services: {t: {endpoints: ['a:1'], protocol: h2c}}", "f", {}).config
    assert transcoders({**config.services, **plain.services}).keys() == {"s"}


def test_a_file_that_has_become_unusable_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "set.pb"
    path.write_bytes(library())
    config = read(f"      descriptors: {path}").config
    path.unlink()
    with pytest.raises(ConfigError) as caught:
        transcoders(config.services)
    assert str(caught.value) == (
        f"{path}: services.s.transcode.descriptors: {path}: there is no such file"
    )


def test_protobuf_is_loaded_for_services_that_are_transcoded_alone() -> None:
    program = """
import sys
from siger_gateway import cli, gateway
from siger_gateway.config.load import loads
from siger_gateway.grpc.descriptions import Descriptions
from siger_gateway.grpc.descriptor_files import check_transcoding
from siger_gateway.telemetry.metrics import Metrics
config = loads("services: {t: {endpoints: ['a:1'], protocol: h2c}}", "f", {}, [check_transcoding])
assert Descriptions(config.config.services, {}.__getitem__, Metrics()).transcoders == {}
print([name for name in sys.modules if name.startswith("google.")])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
