"""The small parts of discovery: pauses, log lines, addresses; and what the test servers need."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from consul import ConsulException
from hypothesis import given
from hypothesis import strategies as st

from siger_gateway.config.schema import RegisterConfig
from siger_gateway.discovery.backoff import backoff
from siger_gateway.discovery.consul_client import ConsulClient, split_address
from siger_gateway.discovery.outage import Outage
from siger_gateway.discovery.register import Registrar
from tests.install_servers import NotHere, apt_mirrors, unpack_without_dpkg


@given(st.integers(1, 10_000))
def test_the_backoff_starts_short_doubles_and_ends_at_ten_seconds(failures: int) -> None:
    longest = min(0.2 * 2.0 ** min(failures - 1, 20), 10.0)
    assert longest / 2 <= backoff(failures) <= longest


def test_an_outage_is_two_log_lines_however_many_queries_fail(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    outage = Outage()
    for _ in range(3):
        for service in ("users", "orders"):
            outage.begin(service, ConnectionRefusedError("refused"))
    outage.end("users")
    outage.end("users")
    outage.end("orders")
    assert [one.message for one in caplog.records] == [
        "consul does not answer as it should; the last tables stay",
        "consul answers again",
    ]


def test_another_kind_of_failure_is_another_line(caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage()
    outage.begin("users", ConnectionRefusedError("refused"))
    outage.begin("users", ConsulException("500 No cluster leader"))
    outage.begin("users", ConsulException("500 No cluster leader"))
    assert [one.fields["error"] for one in caplog.records] == [  # type: ignore[attr-defined]
        "refused",
        "500 No cluster leader",
    ]


def test_a_failure_that_nobody_foresaw_is_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    Outage().begin("users", KeyError("a mistake of ours"))
    assert caplog.records[0].exc_info


def test_addresses_are_split_at_the_port() -> None:
    assert split_address("localhost:8500") == ("localhost", 8500)
    assert split_address("[::1]:8500") == ("::1", 8500)


@pytest.mark.parametrize(
    ("configured", "port"),
    [("", 8080), ("gw.internal", 8080), ("gw.internal:80", 80), ("fd00::1", 8080),
     ("[fd00::1]", 8080), ("[fd00::1]:80", 80), ("10.0.0.1", 8080)],
)  # fmt: skip
def test_an_address_with_a_port_takes_precedence_over_the_listener(
    configured: str, port: int
) -> None:
    registrar = Registrar("localhost:8500", "", RegisterConfig(address=configured), 8080)
    assert registrar.service_id.endswith(f"-{port}")
    assert registrar.service_id.startswith("siger-gateway-")


@pytest.mark.parametrize(
    ("configured", "environment", "used"),
    [("mine", "theirs", "mine"), ("", "theirs", "theirs"), ("", None, None)],
)
def test_the_token_of_the_configuration_wins_over_the_environment(
    configured: str, environment: str | None, used: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CONSUL_HTTP_TOKEN", raising=False)
    if environment is not None:
        monkeypatch.setenv("CONSUL_HTTP_TOKEN", environment)
    assert ConsulClient("localhost:8500", configured)._consul.token == used


def test_mirrors_are_read_from_both_formats_of_apts_sources(tmp_path: Path) -> None:
    folder = tmp_path / "sources.list.d"
    folder.mkdir()
    (tmp_path / "sources.list").write_text(
        "# deb http://old/debian a main\ndeb [arch=amd64 trusted=yes] http://one/debian/ a main\n"
    )
    (folder / "b.sources").write_text(
        "Types: deb\nURIs: https://two/debian https://three/debian\nSuites: a\n"
        "\nTypes: deb\nURIs: http://two/debian-security\n"
    )
    (folder / "c.sources.disabled").write_text("URIs: http://four/debian\n")
    assert list(apt_mirrors(tmp_path)) == [
        "http://one/debian",
        "https://two/debian",
        "https://three/debian",
    ]


def test_a_package_is_unpacked_without_dpkg(tmp_path: Path) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:xz") as archive:
        info = tarfile.TarInfo("./usr/bin/consul")
        info.size = 5
        archive.addfile(info, io.BytesIO(b"hello"))
    members = [("debian-binary", b"2.0\n\n"), ("data.tar.xz/", data.getvalue())]
    package = b"!<arch>\n"
    for name, content in members:
        head = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
        package += head + content + b"\n" * (len(content) % 2)
    unpack_without_dpkg(package, tmp_path)
    binary = tmp_path / "usr" / "bin" / "consul"
    assert binary.read_bytes() == b"hello"
    assert binary.stat().st_mode & 0o111


def test_what_is_no_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotHere):
        unpack_without_dpkg(b"<html>", tmp_path)
