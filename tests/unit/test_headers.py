"""Header fields: which travel on, and how a head is written. Sections are those of RFC 9110."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siger_gateway.http.headers import (
    HOP_BY_HOP,
    NEVER_DROPPED,
    STATUS_LINES,
    Headers,
    connection_options,
    encode_head,
    end_to_end,
    find_all,
    is_token,
)
from siger_gateway.http1.request_parser import RequestParser


def travelling(*headers: tuple[bytes, bytes]) -> Headers:
    return end_to_end(list(headers), dict(headers), HOP_BY_HOP)


@pytest.mark.parametrize(
    "connection",
    [
        [b"x-inner"],
        [b"X-Inner"],
        [b"close, x-inner"],
        [b"x-inner,close"],
        [b"\tx-inner\t,"],
        [b",,x-inner"],
        [b"close", b"x-inner"],
        [b"x-inner", b"close"],
        [b"keep-alive", b"Keep-Alive, X-INNER"],
    ],
)
def test_7_6_1_fields_named_by_any_connection_field_end_here(connection: list[bytes]) -> None:
    options = [(b"connection", value) for value in connection]
    assert travelling((b"x-inner", b"1"), (b"y", b"2"), *options) == [(b"y", b"2")]
    assert travelling(*options, (b"y", b"2"), (b"x-inner", b"1")) == [(b"y", b"2")]


@pytest.mark.parametrize(
    "option", [b"close", b"Close", b"keep-alive", b"Keep-Alive", b"CLOSE", b""]
)
def test_7_6_1_other_fields_travel_on(option: bytes) -> None:
    assert travelling((b"connection", option), (b"x-inner", b"1")) == [(b"x-inner", b"1")]


def test_7_6_1_every_field_of_a_name_ends_here() -> None:
    doubled = [(b"x-inner", b"1"), (b"x-inner", b"2"), (b"x-inner-too", b"3")]
    assert travelling(*doubled, (b"connection", b"x-inner")) == [(b"x-inner-too", b"3")]


@pytest.mark.parametrize("name", sorted(NEVER_DROPPED))
def test_connection_does_not_name_away_what_frames_and_routes(name: bytes) -> None:
    assert travelling((name, b"1"), (b"connection", b"close, " + name.upper())) == [(name, b"1")]


NAMES = st.sampled_from([b"a", b"b", b"c", b"connection", b"te", b"host", b"content-length"])
VALUES = st.sampled_from([b"", b"a", b"B", b"a,b", b" c ,", b"close", b"keep-alive", b"host"])


@given(st.lists(st.tuples(NAMES, VALUES), max_size=8))
def test_what_travels_is_what_a_plain_reading_of_the_rule_says(headers: Headers) -> None:
    named = {
        option.strip().lower()
        for name, value in headers
        if name == b"connection"
        for option in value.split(b",")
    }
    gone = HOP_BY_HOP | (named - NEVER_DROPPED)
    assert travelling(*headers) == [field for field in headers if field[0] not in gone]


@given(st.lists(st.tuples(st.sampled_from([b"a", b"x-b"]), st.binary(max_size=5)), max_size=5))
def test_what_goes_in_is_not_changed(headers: Headers) -> None:
    before = list(headers)
    travelling(*headers)
    encode_head(b"GET / HTTP/1.1", headers)
    assert headers == before


def test_a_head_is_a_line_fields_and_an_empty_line() -> None:
    assert encode_head(b"HTTP/1.1 200 OK", []) == b"HTTP/1.1 200 OK\r\n\r\n"
    fields: Headers = [(b"a", b"1"), (b"b", b""), (b"a", b"\xff")]
    assert encode_head(b"0", fields) == b"0\r\na: 1\r\nb: \r\na: \xff\r\n\r\n"


TOKENS = st.text("abc-_.~!1", min_size=1, max_size=6).map(str.encode)
VALUES_ON_THE_WIRE = st.text("ab ,;=/\"'\xe4", max_size=8).map(lambda text: text.strip().encode())


@given(st.lists(st.tuples(TOKENS.filter(lambda name: name != b"te"), VALUES_ON_THE_WIRE)))
def test_what_is_written_is_read_back(headers: Headers) -> None:
    parser = RequestParser(100_000, 0)
    head: Headers = [(b"host", b"a"), *headers[:100]]
    parser.receive(encode_head(b"GET /x HTTP/1.1", head))
    assert parser.error is None
    assert parser.started[0].headers == head


def test_every_status_has_its_line() -> None:
    assert set(STATUS_LINES) == set(range(100, 600))
    assert STATUS_LINES[404] == b"HTTP/1.1 404 Not Found"
    assert STATUS_LINES[599] == b"HTTP/1.1 599 "  # RFC 9112 section 4: the space stays
    for status in HTTPStatus:
        assert STATUS_LINES[status].startswith(b"HTTP/1.1 %d " % status)


def test_options_are_names_in_lower_case() -> None:
    assert connection_options(b" Close,\tX-A ,x-b") == {b"close", b"x-a", b"x-b"}


@pytest.mark.parametrize(
    ("value", "token"),
    [
        *((value, True) for value in (b"a", b"GET", b"x-1_.~", b"!#$%&'*+-.^_`|~")),
        *((value, False) for value in (b"", b" ", b"a b", b"a:", b"(a)", b"a,b", b"\x00", b"\xe4")),
        *((value, False) for value in (b"a\r\n", b'"a"', b"a/b", b"a=b", b"a;b", b"[a]", b"\x7f")),
    ],
)
def test_5_6_2_what_a_token_is(value: bytes, token: bool) -> None:
    assert is_token(value) is token


def test_every_value_of_a_field_is_found_in_order() -> None:
    headers: Headers = [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]
    assert find_all(headers, b"a") == [b"1", b"3"]
    assert find_all(headers, b"c") == []
