"""A secret in a query never gets into a log, however it is written there."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siger_gateway.telemetry import redact
from siger_gateway.telemetry.redact import (
    MAX_QUERY,
    MAX_SEPARATORS,
    redact_query,
    redact_target,
)

SECRET = b"5ecr3t"
NAMES = [
    *("access_token", "token", "id_token", "api_key", "apikey", "api-key", "key", "secret"),
    *("client_secret", "password", "passwd", "pwd", "signature", "sig", "auth", "authorization"),
    *("jwt", "session", "sessionid", "x-amz-signature", "X-Amz-Security-Token", "code"),
    *(
        "X-Amz-Credential",
        "X-Goog-Signature",
        "AWSAccessKeyId",
        "SAMLResponse",
        "PHPSESSID_session",
    ),
    *("accessToken", "user[password]", "user.password", "token[]", "auth.key", " token", "to+ken"),
]


@pytest.mark.parametrize("name", NAMES)
def test_the_value_of_a_secret_is_replaced(name: str) -> None:
    raw = name.encode()
    assert redact_target(b"/p?" + raw + b"=5ecr3t") == b"/p?" + raw + b"=***"
    assert redact_target(b"/p?a=1&" + raw.upper() + b"=5ecr3t&b=2") == (
        b"/p?a=1&" + raw.upper() + b"=***&b=2"
    )


@pytest.mark.parametrize(
    ("target", "redacted"),
    [
        (b"?token=5ecr3t", b"?token=***"),
        (b"/?token=", b"/?token=***"),
        (b"/?token=5ecr3t=5ecr3t", b"/?token=***"),
        (b"/?token=1&token=2", b"/?token=***&token=***"),
        (b"/?a=1;token=5ecr3t", b"/?a=1;token=***"),
        (b"/?token=5ec;r3t&a=1", b"/?token=***&a=1"),
        (b"/?%74oken=5ecr3t", b"/?%74oken=***"),
        (b"/?%74%6F%6b%65%6e=5ecr3t", b"/?%74%6F%6b%65%6e=***"),
        (b"/?user%5Bpassword%5D=5ecr3t", b"/?user%5Bpassword%5D=***"),
        (b"/?token%3D5ecr3t", b"/?***"),
        (b"/?key%3D5ecr3t=1", b"/?***"),
        (b"/?a%26token%3D5ecr3t=1&b=2", b"/?***&b=2"),
        (b"/?next=/login?token=5ecr3t", b"/?next=***"),
        (b"/?next=/cb%3Fkey%3D5ecr3t", b"/?next=***"),
        (b"/?next=/cb%253Fkey%253D5ecr3t&a=1", b"/?next=***&a=1"),
        (b"/?a=1;next=/cb%3Fkey%3D5ecr3t", b"/?a=1;next=***"),
        (b"/?a=1#token=5ecr3t", b"/?a=***"),
        (b"/?a?token=5ecr3t", b"/?a?token=***"),
    ],
)
def test_ways_to_write_a_secret(target: bytes, redacted: bytes) -> None:
    assert redact_target(target) == redacted


@pytest.mark.parametrize(
    "target",
    [
        *(b"/", b"*", b"", b"/token=1", b"/?", b"/p?page=2&sort=name", b"/?q=token", b"/?token"),
        *(b"/?monkey=1&author=2&keyboard=3&design=4", b"/?q=a%20key", b"/?&&==&;", b"/?\xff=\x00"),
        b"/?a=%",
    ],
)
def test_a_target_without_secrets_is_the_same_object(target: bytes) -> None:
    assert redact_target(target) is target


def test_a_query_that_is_too_long_is_cut() -> None:
    for end in (b"", b"a=1", b"token=5ecr3t"):
        target = b"/p?a=" + b"x" * (MAX_QUERY - 2 - len(end)) + end
        redacted = redact_target(target + b"&token=5ecr3t")
        assert redacted.startswith(b"/p?a=")
        assert redacted.endswith(b"***")
        assert len(redacted) <= len(b"/p?") + MAX_QUERY + 3
        assert SECRET not in redacted


def test_a_query_of_very_many_parameters_is_replaced_as_a_whole() -> None:
    harmless = b"/p?" + b"a=1&" * (MAX_SEPARATORS + 1)
    assert redact_target(harmless) is harmless
    assert redact_target(harmless + b"token=5ecr3t") == b"/p?***"


def encoded(draw: st.DrawFn, text: str) -> str:
    """Each character of a name in one of the ways that mean the same."""
    return "".join(
        draw(
            st.sampled_from([one, one.lower(), one.upper(), f"%{ord(one):02x}", f"%{ord(one):02X}"])
        )
        for one in text
    )


harmless = st.text(alphabet="abxyz0189%-_.~+=?/#[]2", max_size=8)
secrets = st.sampled_from(["5ecr3t", "5ecr3t%3D", "a+5ecr3t", "%35ecr3t5ecr3t", "a;b=5ecr3t"])


@st.composite
def queries(draw: st.DrawFn) -> str:
    """Parameters of all kinds, at least one of which is secret."""
    parts = draw(st.lists(st.tuples(harmless, harmless).map("=".join), max_size=4))
    for _ in range(draw(st.integers(1, 3))):
        part = f"{encoded(draw, draw(st.sampled_from(NAMES)))}={draw(secrets)}"
        for _ in range(draw(st.integers(0, 2))):
            part = "next=" + quote(f"/login?a=1&{part}", safe="")
        parts.insert(draw(st.integers(0, len(parts))), part)
    query = parts[0]
    for part in parts[1:]:
        query += draw(st.sampled_from(["&", ";", "&&", ";&"])) + part
    return query


@given(queries())
def test_a_secret_never_survives(query: str) -> None:
    target = b"/p?" + query.encode()
    redacted = redact_target(target)
    assert SECRET not in redacted
    assert redacted.startswith(b"/p?")
    assert redact_target(redacted) == redacted


@given(queries(), st.sampled_from("&;"))
def test_a_service_would_find_no_value_of_a_secret_in_the_log(query: str, separator: str) -> None:
    redacted = redact_target(b"/p?" + query.encode()).decode().partition("?")[2]
    for name, value in parse_qsl(redacted, separator=separator):
        if name.lower() in {one.lower() for one in NAMES}:
            assert value.startswith("***"), (name, value)


@given(st.binary(max_size=80))
def test_any_target_is_redacted_or_stays(query: bytes) -> None:
    target = b"/p?" + query
    redacted = redact_target(target)
    assert redacted.startswith(b"/p?")
    assert redacted is target or b"***" in redacted
    assert redact_target(redacted) == redacted


words = st.text(alphabet="abnxyz0189", max_size=5)


@given(st.lists(st.tuples(words, words), min_size=1, max_size=5))
def test_harmless_parameters_stay_beside_a_secret(pairs: list[tuple[str, str]]) -> None:
    query = "&".join(map("=".join, pairs))
    assert redact_target(f"/p?{query}&token=5ecr3t&{query}".encode()) == (
        f"/p?{query}&token=***&{query}".encode()
    )


@given(st.lists(st.sampled_from([*"aZ1-._~,:@+&=;?#[]%&=", "key", "token", "%26", "page"])))
def test_what_was_seen_before_is_redacted_as_the_first_time(pieces: list[str]) -> None:
    query = "".join(pieces).encode()
    redact._harmless.clear()
    first = redact_query(query)
    assert [redact_query(query) for _ in range(8)] == [first] * 8


def test_clients_cannot_fill_the_memory_with_names_of_parameters() -> None:
    for number in range(2 * redact.MAX_NAMES):
        redact_query(b"p%d=1" % number)
    redact_query(b"p" * (redact.MAX_NAME + 1) + b"=1")
    assert len(redact._harmless) <= redact.MAX_NAMES
    assert max(map(len, redact._harmless)) <= redact.MAX_NAME
