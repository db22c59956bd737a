"""The ``tls`` sections of a configuration: every mistake has its line and its words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from siger_gateway.config.load import ConfigError, loads
from siger_gateway.config.problem import Problem
from tests.certificates import EXPIRED, Authority


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority(folder)
    authority.issue("good", "good.test")
    authority.issue("ip", "127.0.0.1")
    authority.issue("old", "old.test", not_after=EXPIRED)
    authority.issue("soon", "soon.test", not_after=datetime.now(UTC) + timedelta(days=2))
    return folder


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loads(text, "f", {})
    return [said(one) for one in caught.value.problems]


def warnings(text: str) -> list[str]:
    return [said(one) for one in loads(text, "f", {}).warnings]


def said(problem: Problem) -> str:
    return f"{problem.line} {problem.key}: {problem.reason}"


GOOD = "cert: {0}/good.pem, key: {0}/good.key"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tls:\n  cert: {0}/none.pem", "2 tls.cert: {0}/none.pem: there is no such file"),
        (
            "tls:\n  cert: {0}/good.pem",
            "2 tls.cert: {0}/good.pem: there is no private key in it",
        ),
        (
            "tls:\n  cert: {0}/good.pem\n  key: {0}/old.key",
            "3 tls.key: {0}/old.key: the private key is not that of the certificate in"
            " {0}/good.pem",
        ),
        (
            "tls:\n  " + GOOD.replace(", ", "\n  ") + "\n  client_ca: {0}/good.key",
            "4 tls.client_ca: {0}/good.key: there is no certificate in it",
        ),
        (
            "tls: {{" + GOOD + ", certificates: [\n{{cert: {0}/x.pem}}]}}",
            "2 tls.certificates[0].cert: {0}/x.pem: there is no such file",
        ),
        (
            "tls: {{" + GOOD + ", certificates: [\n{{cert: {0}/ip.pem, key: {0}/ip.key}}]}}",
            "2 tls.certificates[0].cert: the certificate has no DNS name: no client can ask for it",
        ),
        ("tls: {{key: {0}/good.key}}", '1 tls.key: has no effect without "cert"'),
        ("tls: {{client_ca: {0}/ca.pem}}", '1 tls.client_ca: has no effect without "cert"'),
        (
            "services: {{s: {{endpoints: [a:1], tls: {{ca: {0}/ca.pem}}}}}}",
            "1 services.s.tls: has no effect: no endpoint speaks https or h2",
        ),
        (
            "services: {{s: {{consul: a, tls: {{ca: {0}/none.pem}}}}}}",
            "1 services.s.tls.ca: {0}/none.pem: there is no such file",
        ),
        (
            "services: {{s: {{consul: a, protocol: https, tls: {{key: {0}/good.key}}}}}}",
            '1 services.s.tls.key: has no effect without "cert"',
        ),
        (
            "services: {{s: {{consul: a, tls: {{ca: {0}/ca.pem, verify: false}}}}}}",
            '1 services.s.tls.ca: has no effect with "verify: false"',
        ),
        (
            "services: {{s: {{consul: a, tls: {{server_name: 'a:1'}}}}}}",
            "1 services.s.tls.server_name: expected a host name or an IP address, without port,"
            ' found the string "a:1": that is no host name',
        ),
    ],
)
def test_a_mistake_is_named_with_its_line(folder: Path, text: str, expected: str) -> None:
    assert problems(text.format(folder)) == [expected.format(folder)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tls: {{" + GOOD + ", min_version: 1.3, client_ca: {0}/ca.pem}}", []),
        (
            "services: {{s: {{endpoints: [{{address: 'a:1', protocol: https}}],"
            " tls: {{ca: {0}/ca.pem}}}}}}",
            [],
        ),
        (
            "tls: {{cert: {0}/old.pem, key: {0}/old.key}}",
            ["1 tls.cert: the certificate has expired on 2020-01-01"],
        ),
        (
            "services: {{s: {{endpoints: [a:1], protocol: https, tls: {{verify: false}}}}}}",
            [
                "1 services.s.tls.verify: whoever answers is taken for the service: not for"
                " production"
            ],
        ),
    ],
)
def test_what_can_be_used_is_at_most_warned_of(
    folder: Path, text: str, expected: list[str]
) -> None:
    assert warnings(text.format(folder)) == expected


def test_an_end_that_is_near_is_warned_of(folder: Path) -> None:
    (warning,) = warnings(f"tls: {{cert: {folder}/soon.pem, key: {folder}/soon.key}}")
    assert "the certificate expires on 20" in warning
