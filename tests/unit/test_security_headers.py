"""Fields that protect browsers, and those about users that come from the gateway alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siger_gateway.config.policies import SecurityHeadersConfig
from siger_gateway.filters.headers import (
    IDENTITY_FIELDS,
    add_missing,
    security_headers,
    spellings,
)
from siger_gateway.http.headers import Headers
from siger_gateway.proxy.forwarded import NOT_FORWARDED, NOT_IN_TRAILERS

DEFAULT: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
]
TRANSPORT = (b"strict-transport-security", b"max-age=31536000")
OFF = SecurityHeadersConfig(True, "", "", "", "", "", "")


def test_strict_transport_security_is_for_https_alone() -> None:
    found = security_headers(SecurityHeadersConfig())
    assert found.http == DEFAULT
    assert found.https == [TRANSPORT, *DEFAULT]


def test_each_field_can_be_switched_off() -> None:
    found = security_headers(OFF)
    assert (found.http, found.https) == ([], [])
    found = security_headers(
        SecurityHeadersConfig(strict_transport_security="", x_frame_options="")
    )
    assert found.http == found.https == [DEFAULT[0], DEFAULT[2]]


@pytest.mark.parametrize("name", [one for one in OFF.__slots__ if one != "enabled"])
def test_each_field_can_have_another_value(name: str) -> None:
    config = SecurityHeadersConfig(**{one: "x y" if one == name else "" for one in OFF.__slots__})
    field = (name.replace("_", "-").encode(), b"x y")
    assert security_headers(config).https == [field]
    assert security_headers(config).http == ([] if name.startswith("strict") else [field])


def test_a_value_that_is_not_ascii_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        security_headers(SecurityHeadersConfig(content_security_policy="\u00e4"))


def test_what_the_service_has_sent_itself_stays_and_is_not_doubled() -> None:
    headers: Headers = [(b"x-frame-options", b"SAMEORIGIN"), (b"content-type", b"text/html")]
    add_missing(headers, DEFAULT)
    assert headers == [
        (b"x-frame-options", b"SAMEORIGIN"),
        (b"content-type", b"text/html"),
        DEFAULT[0],
        DEFAULT[2],
    ]


fields = st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c", b"d"]), st.binary(max_size=2)))


@given(fields, st.lists(st.sampled_from([(b"a", b"1"), (b"b", b"2"), (b"e", b"3")]), unique=True))
def test_only_missing_fields_are_added_and_nothing_else_changes(
    headers: Headers, wanted: Headers
) -> None:
    before, asked = list(headers), list(wanted)
    add_missing(headers, wanted)
    names = [name for name, _ in before]
    assert headers == before + [field for field in wanted if field[0] not in names]
    assert wanted == asked


@pytest.mark.parametrize(
    "name",
    [
        *(b"x-user-id", b"x-user-role", b"x-user-roles", b"x-user-scopes", b"x-authenticated-user"),
        *(b"x_user_id", b"x_user-role", b"x-user_roles", b"x_authenticated_user", b"remote_user"),
    ],
)
def test_who_a_user_is_never_comes_from_a_client(name: bytes) -> None:
    assert name in IDENTITY_FIELDS
    assert name in NOT_FORWARDED
    assert name in NOT_IN_TRAILERS


@pytest.mark.parametrize(
    "name", [b"authorization", b"cookie", b"user-agent", b"x-api-key", b"from"]
)
def test_what_a_client_says_about_itself_goes_on(name: bytes) -> None:
    assert name not in IDENTITY_FIELDS


@given(st.sampled_from(sorted(IDENTITY_FIELDS)), st.data())
def test_every_mixture_of_hyphens_and_underscores_is_known(
    name: bytes, data: st.DataObject
) -> None:
    mixed = bytes(data.draw(st.sampled_from(b"-_")) if one in b"-_" else one for one in name)
    assert mixed in IDENTITY_FIELDS
    assert mixed == mixed.lower()


def test_a_name_of_two_hyphens_has_four_spellings() -> None:
    assert spellings(b"a-b-c", b"d") == {b"a-b-c", b"a_b-c", b"a-b_c", b"a_b_c", b"d"}
