"""Certificates in files: what they say, which one is chosen, what is wrong with a bad one."""

from __future__ import annotations

import contextlib
import logging
import os
import ssl
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from hypothesis import given
from hypothesis import strategies as st

from siger_gateway.tls.certificates import LOOK_INTERVAL, Certificates, ServerFiles, for_name
from siger_gateway.tls.contexts import FileProblem, KeyPair, client_context, server_context
from siger_gateway.tls.x509 import NotACertificate, read_der, read_pem
from tests.certificates import EXPIRED, Authority

DER = ssl.PEM_cert_to_DER_cert(
    trustme.CA().issue_cert("a.test").cert_chain_pems[0].bytes().decode()
)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.mark.parametrize(
    "end", [datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(2050, 1, 1, tzinfo=UTC)]
)
def test_names_and_end_are_those_of_the_certificate(authority: Authority, end: datetime) -> None:
    cert, _ = authority.issue("a", "A.test", "*.b.test", "192.0.2.1", "2001:db8::1", not_after=end)
    found = read_pem(f"remarks\n{cert.read_text()}")
    assert found.names == ("a.test", "*.b.test")
    assert found.not_after == end.timestamp()


def test_a_certificate_without_names_has_none(authority: Authority) -> None:
    assert read_pem(authority.file.read_text()).names == ()


@given(st.integers(0, len(DER) - 1), st.integers(0, 255))
def test_a_damaged_certificate_is_read_or_refused(at: int, byte: int) -> None:
    for damaged in (DER[:at], DER[:at] + bytes([byte]) + DER[at + 1 :]):
        with contextlib.suppress(NotACertificate):
            read_der(damaged)


@given(st.binary())
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(NotACertificate):
        read_der(data)


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("a.test", "exact"),
        ("A.TEST", "exact"),
        ("a.test.", "exact"),
        ("x.a.test", "wildcard"),
        ("x.y.a.test", None),
        (".a.test", "wildcard"),
        ("test", None),
        ("*.a.test", "wildcard"),
        ("", None),
        (None, None),
    ],
)
def test_a_name_finds_itself_or_its_wildcard(name: str | None, chosen: str | None) -> None:
    by_name = {"a.test": "exact", "*.a.test": "wildcard"}
    assert for_name(by_name, name) == chosen  # type: ignore[arg-type]


def problem(pair: KeyPair, client_ca: str = "") -> tuple[str, str]:
    with pytest.raises(FileProblem) as caught:
        server_context(pair, "1.2", client_ca, "required")
    return caught.value.what, caught.value.why


def test_what_is_wrong_with_a_file_is_said_in_words(authority: Authority, tmp_path: Path) -> None:
    cert, key = (str(one) for one in authority.issue("a", "a.test"))
    other = str(authority.issue("b", "b.test")[1])
    none = str(tmp_path / "none.pem")
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    broken_key = tmp_path / "broken.key"
    broken_key.write_text("-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n")
    encrypted = tmp_path / "encrypted.key"
    encrypted.write_bytes(
        load_pem_private_key(Path(key).read_bytes(), None).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
        )
    )
    assert problem(KeyPair(none, key)) == ("cert", "there is no such file")
    assert problem(KeyPair(cert, none)) == ("key", "there is no such file")
    assert problem(KeyPair(str(tmp_path), key)) == ("cert", "cannot be read: Is a directory")
    assert problem(KeyPair(str(empty), key)) == ("cert", "there is no certificate in it")
    assert problem(KeyPair(key, key)) == ("cert", "there is no certificate in it")
    assert problem(KeyPair(cert, cert)) == ("key", "there is no private key in it")
    assert problem(KeyPair(cert)) == ("cert", "there is no private key in it")
    assert problem(KeyPair(str(broken), key)) == ("cert", "its certificate is damaged")
    what, why = problem(KeyPair(cert, str(broken_key)))
    assert what == "key"
    assert why.startswith("the private key cannot be used")
    assert problem(KeyPair(cert, str(encrypted))) == ("key", "the private key is encrypted")
    assert problem(KeyPair(cert, other)) == (
        "key",
        f"the private key is not that of the certificate in {cert}",
    )
    assert problem(KeyPair(cert, key), none) == ("ca", "there is no such file")
    assert problem(KeyPair(cert, key), key) == ("ca", "there is no certificate in it")
    assert problem(KeyPair(cert, key), str(broken)) == ("ca", "a certificate in it is damaged")
    both = tmp_path / "both.pem"
    both.write_text(Path(cert).read_text() + Path(key).read_text())
    server_context(KeyPair(str(both)), "1.2", "", "required")


def test_contexts_verify_and_speak_only_what_they_should(authority: Authority) -> None:
    cert, key = (str(one) for one in authority.issue("a", "a.test"))
    server = server_context(KeyPair(cert, key), "1.2", str(authority.file), "optional")
    client = client_context(str(authority.file), None, "full")
    assert server.verify_mode is ssl.CERT_OPTIONAL
    assert (client.verify_mode, client.check_hostname) == (ssl.CERT_REQUIRED, True)
    for context in (server, client):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        for cipher in context.get_ciphers():
            assert cipher["aead"]
            assert cipher["kea"] in ("kx-ecdhe", "kx-any")  # any: TLS 1.3
    assert client_context("", None, "full").cert_store_stats()["x509_ca"] > 0
    assert client_context("", None, "none").verify_mode is ssl.CERT_NONE


class TestRenewal:
    def make(self, authority: Authority, not_after: datetime | None = None) -> Certificates:
        cert, key = authority.issue("a", "a.test", not_after=not_after)
        source = ServerFiles((KeyPair(str(cert), str(key)),))
        return Certificates(source, defaultdict(int))

    def test_files_are_looked_at_only_every_interval(self, authority: Authority) -> None:
        certificates = self.make(authority)
        first = certificates.context
        certificates.look(100.0)
        authority.issue("a", "b.test")
        certificates.look(100.0 + LOOK_INTERVAL - 0.1)
        assert certificates.context is first
        certificates.look(100.0 + LOOK_INTERVAL)
        assert certificates.context is not first
        assert certificates.presented[0][1].names == ("b.test",)
        second = certificates.context
        certificates.look(200.0)
        assert certificates.context is second

    def test_a_failure_is_logged_once_and_mended_by_the_next_change(
        self, authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        certificates = self.make(authority)
        first = certificates.context
        good = (tmp_path / "a.key").read_bytes()
        (tmp_path / "a.key").unlink()
        for now in (100.0, 200.0, 300.0):
            certificates.look(now)
        assert [one.message for one in caplog.records] == ["changed certificate is not used"]
        assert certificates.context is first
        (tmp_path / "a.key").write_bytes(good)
        certificates.look(400.0)
        assert certificates.context is not first

    @pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
    def test_a_file_that_becomes_readable_is_read(self, authority: Authority) -> None:
        certificates = self.make(authority)
        first = certificates.context
        key = authority.folder / "a.key"
        key.chmod(0)
        certificates.look(100.0)
        key.chmod(0o600)
        certificates.look(200.0)
        assert certificates.context is not first

    @pytest.mark.parametrize(
        ("not_after", "said"),
        [
            (EXPIRED, ["certificate has expired"] * 2),
            (datetime.now(UTC) + timedelta(days=3), ["certificate expires soon"] * 2),
            (datetime.now(UTC) + timedelta(days=30), []),
        ],
    )
    def test_the_log_warns_once_a_day_before_the_end(
        self,
        authority: Authority,
        caplog: pytest.LogCaptureFixture,
        not_after: datetime,
        said: list[str],
    ) -> None:
        caplog.set_level(logging.WARNING)
        certificates = self.make(authority, not_after)
        for now in (100.0, 200.0, 86_000.0, 86_500.0):
            certificates.look(now)
        assert [one.message for one in caplog.records] == said
        assert [figure for _, figure in certificates.samples()] == [
            pytest.approx(not_after.timestamp(), abs=1)
        ]
