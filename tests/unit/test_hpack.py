"""Header blocks as they are decoded: the examples of RFC 7541, its errors, the limits."""

from __future__ import annotations

import tracemalloc

import pytest
from hpack.table import HeaderTable

from siger_gateway.http.headers import Headers
from siger_gateway.http2.faults import COMPRESSION_ERROR, HeaderListTooLarge, HpackError
from siger_gateway.http2.hpack_decoder import HeaderDecoder
from siger_gateway.http2.static_table import FIELD_INDEX, NAME_INDEX, STATIC_FIELDS, STATIC_LENGTH
from tests.header_blocks import PLENTY, decode, integer, literal, update

REQUESTS: list[Headers] = [
    [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", b"/"),
        (b":authority", b"www.example.com"),
    ],
    [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", b"/"),
        (b":authority", b"www.example.com"),
        (b"cache-control", b"no-cache"),
    ],
    [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":path", b"/index.html"),
        (b":authority", b"www.example.com"),
        (b"custom-key", b"custom-value"),
    ],
]
COOKIE = b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"
RESPONSES: list[Headers] = [
    [
        (b":status", b"302"),
        (b"cache-control", b"private"),
        (b"date", b"Mon, 21 Oct 2013 20:13:21 GMT"),
        (b"location", b"https://www.example.com"),
    ],
    [
        (b":status", b"307"),
        (b"cache-control", b"private"),
        (b"date", b"Mon, 21 Oct 2013 20:13:21 GMT"),
        (b"location", b"https://www.example.com"),
    ],
    [
        (b":status", b"200"),
        (b"cache-control", b"private"),
        (b"date", b"Mon, 21 Oct 2013 20:13:22 GMT"),
        (b"location", b"https://www.example.com"),
        (b"content-encoding", b"gzip"),
        (b"set-cookie", COOKIE),
    ],
]
APPENDIX_C = {
    "C.3": (
        4096,
        REQUESTS,
        [
            "828684410f7777772e6578616d706c652e636f6d",
            "828684be58086e6f2d6361636865",
            "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        ],
        [(1, 57), (2, 110), (3, 164)],
    ),
    "C.4": (
        4096,
        REQUESTS,
        [
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            "828684be5886a8eb10649cbf",
            "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        ],
        [(1, 57), (2, 110), (3, 164)],
    ),
    "C.5": (
        256,
        RESPONSES,
        [
            "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a3231"
            "20474d546e1768747470733a2f2f7777772e6578616d706c652e636f6d",
            "4803333037c1c0bf",
            "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a697077"
            "38666f6f3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d616765"
            "3d333630303b2076657273696f6e3d31",
        ],
        [(4, 222), (4, 222), (3, 215)],
    ),
    "C.6": (
        256,
        RESPONSES,
        [
            "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad17"
            "1863c78f0b97c8e9ae82ae43d3",
            "4883640effc1c0bf",
            "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6"
            "c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
        ],
        [(4, 222), (4, 222), (3, 215)],
    ),
}


def test_the_static_table_is_that_of_appendix_a() -> None:
    assert tuple(HeaderTable.STATIC_TABLE) == STATIC_FIELDS
    assert len(STATIC_FIELDS) == STATIC_LENGTH
    for index, field in enumerate(STATIC_FIELDS, 1):
        assert FIELD_INDEX[field] == index
        assert NAME_INDEX[field[0]] <= index
        assert STATIC_FIELDS[NAME_INDEX[field[0]] - 1][0] == field[0]
        assert decode(HeaderDecoder(), bytes([0x80 | index])) == [field]


@pytest.mark.parametrize("section", APPENDIX_C)
def test_examples_of_appendix_c_in_a_row(section: str) -> None:
    size, lists, blocks, states = APPENDIX_C[section]
    decoder = HeaderDecoder(size)
    for headers, block, (entries, used) in zip(lists, blocks, states, strict=True):
        assert decode(decoder, bytes.fromhex(block)) == headers
        assert repr(decoder) == f"<HeaderDecoder {entries} entries, {used} of {size} bytes>"


@pytest.mark.parametrize(
    ("block", "field", "entries", "sensitive"),
    [
        (
            "400a637573746f6d2d6b65790d637573746f6d2d686561646572",
            (b"custom-key", b"custom-header"),
            1,
            None,
        ),
        ("040c2f73616d706c652f70617468", (b":path", b"/sample/path"), 0, None),
        ("100870617373776f726406736563726574", (b"password", b"secret"), 0, {b"password"}),
        ("82", (b":method", b"GET"), 0, None),
    ],
)
def test_examples_of_appendix_c_2(
    block: str, field: tuple[bytes, bytes], entries: int, sensitive: set[bytes] | None
) -> None:
    decoder = HeaderDecoder()
    assert decode(decoder, bytes.fromhex(block)) == [field]
    assert f"{entries} entries" in repr(decoder)
    assert decoder.never_indexed == sensitive


def test_examples_of_appendix_c_1() -> None:
    decoder = HeaderDecoder()
    assert decode(decoder, bytes([0b00101010])) == []
    assert "of 10 bytes" in repr(decoder)
    assert decode(decoder, bytes([0b00111111, 0b10011010, 0b00001010])) == []
    assert "of 1337 bytes" in repr(decoder)


def test_the_table_holds_more_than_one_byte_can_index() -> None:
    decoder = HeaderDecoder()
    fields = [(b"%c" % (97 + number % 26), b"%d" % number) for number in range(100)]
    for field in fields:
        decode(decoder, literal(*field))
    assert decode(decoder, b"".join(integer(62 + age, 0x7F, 0x80) for age in range(100))) == [
        *reversed(fields)
    ]
    assert decode(decoder, integer(62 + 99, 0x3F, 0x40) + b"\x01x") == [(b"a", b"x")]
    assert decode(decoder, integer(62 + 99, 0x0F) + b"\x01y") == [(b"b", b"y")]


def test_the_oldest_fields_leave_for_new_ones() -> None:
    decoder = HeaderDecoder(3 * 34)
    for name in b"a", b"b", b"c", b"d":
        decode(decoder, literal(name, b"1"))
    assert decode(decoder, b"\xbe\xbf\xc0") == [(b"d", b"1"), (b"c", b"1"), (b"b", b"1")]
    with pytest.raises(HpackError):
        decode(decoder, b"\xc1")


def test_a_field_as_large_as_the_table_fills_it_and_a_larger_one_empties_it() -> None:
    decoder = HeaderDecoder(100)
    decode(decoder, literal(b"a", b"1"))
    assert decode(decoder, literal(b"n", b"v" * 67) + b"\xbe") == [(b"n", b"v" * 67)] * 2
    assert repr(decoder) == "<HeaderDecoder 1 entries, 100 of 100 bytes>"
    assert decode(decoder, literal(b"n", b"v" * 68)) == [(b"n", b"v" * 68)]
    assert repr(decoder) == "<HeaderDecoder 0 entries, 0 of 100 bytes>"


def test_a_name_may_be_that_of_the_field_which_leaves_for_it() -> None:
    decoder = HeaderDecoder(40)
    decode(decoder, literal(b"name", b"1"))
    assert decode(decoder, b"\x7e\x03two") == [(b"name", b"two")]
    assert decode(decoder, b"\xbe") == [(b"name", b"two")]


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",
        b"\xbe",
        b"\xff",
        b"\xff\x00",
        b"\xff\x80",
        b"\xff\xff\xff\xff\xff\x0f",
        b"\x82\x80",
        b"\x7e\x01a",
        b"\x0f\x30\x01a",
        b"\x40",
        b"\x40\x01",
        b"\x40\x01a",
        b"\x40\x01a\x01",
        b"\x40\x02a",
        b"\x40\x7f",
        b"\x40\x01a\x7f\x01" + b"v" * 127,
        b"\x00\x01a\xff",
        b"\x01",
        b"\x10\x81\x00\x00",
        b"\x00\x01a\x81\x18",
        b"\x82\x20",
        b"\x20\x82\x20",
        b"\x20\x20\x20",
        b"\x3f\xe2\x1f",
        b"\x3f",
    ],
)
def test_what_is_no_header_block_is_refused(block: bytes) -> None:
    with pytest.raises(HpackError) as caught:
        decode(HeaderDecoder(), block)
    assert caught.value.code == COMPRESSION_ERROR


@pytest.mark.parametrize("before", [b"\xff", b"\x7f", b"\x0f", b"\x40\x7f", b"\x41\x7f", b"\x3f"])
def test_integers_have_at_most_five_bytes_more(before: bytes) -> None:
    with pytest.raises(HpackError, match="integer"):
        decode(HeaderDecoder(), before + b"\x80" * 5 + b"\x00" * 50)
    with pytest.raises(HpackError, match="integer"):
        decode(HeaderDecoder(), before + b"\xff" * 10_000)


def test_integers_may_have_needless_zeros_within_five_bytes() -> None:
    assert decode(HeaderDecoder(), b"\x0f\x80\x80\x80\x80\x00\x01x") == [(b"accept-charset", b"x")]


def test_a_block_begins_with_two_updates_of_the_size_at_most() -> None:
    decoder = HeaderDecoder()
    decode(decoder, literal(b"a", b"1") + literal(b"b", b"2"))
    assert decode(decoder, update(40) + update(4096) + b"\xbe") == [(b"b", b"2")]
    assert repr(decoder) == "<HeaderDecoder 1 entries, 34 of 4096 bytes>"
    with pytest.raises(HpackError, match="wrong place"):
        decode(decoder, update(40) + update(41) + update(42))


def test_the_table_may_not_become_larger_than_the_limit() -> None:
    decoder = HeaderDecoder(100)
    assert decode(decoder, update(100)) == []
    with pytest.raises(HpackError, match="larger"):
        decode(decoder, update(101))


def test_a_raised_limit_may_be_used() -> None:
    decoder = HeaderDecoder()
    decoder.limit_table(8192)
    assert decode(decoder, b"\x82") == [(b":method", b"GET")]
    assert decode(decoder, update(8192)) == []
    assert "of 8192 bytes" in repr(decoder)


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"\x82",
        literal(b"a", b"1"),
        literal(b"a", b"1", 0x10),
        update(101),
        update(4096),
        update(101) + update(9),
    ],
)
def test_a_lowered_limit_demands_an_update_of_the_size(block: bytes) -> None:
    decoder = HeaderDecoder()
    for _ in range(2):  # remembered blocks, too
        decode(decoder, b"\x82")
    decoder.limit_table(100)
    decoder.limit_table(8192)
    with pytest.raises(HpackError):
        decode(decoder, block)


def test_the_update_to_the_lowest_limit_may_be_followed_by_another() -> None:
    decoder = HeaderDecoder()
    decode(decoder, literal(b"a", b"1"))
    decoder.limit_table(10)
    decoder.limit_table(8192)
    assert decode(decoder, update(10) + update(8192) + b"\x82") == [(b":method", b"GET")]
    assert repr(decoder) == "<HeaderDecoder 0 entries, 0 of 8192 bytes>"
    assert decode(decoder, b"\x82") == [(b":method", b"GET")]


def test_a_lowered_limit_demands_nothing_of_a_table_that_is_smaller() -> None:
    decoder = HeaderDecoder()
    decode(decoder, update(50))
    decoder.limit_table(100)
    assert decode(decoder, b"\x82") == [(b":method", b"GET")]


@pytest.mark.parametrize(
    "block",
    [
        literal(b"a", b"1"),
        literal(b"big", b"v" * 1000, 0x00) + literal(b"a", b"1"),
        literal(b"big", b"v" * 1000) + literal(b"a", b"1"),
        literal(b"a", b"1") + literal(b"big", b"v" * 1000, 0x10),
        literal(b"a", b"1") + b"\xbe" * 31,
        b"\x82" * 25 + literal(b"a", b"1") + b"\x82",
    ],
)
def test_a_list_that_is_too_large_is_refused_but_its_fields_enter_the_table(block: bytes) -> None:
    headers = decode(HeaderDecoder(), block)
    exact = sum(len(name) + len(value) + 32 for name, value in headers)
    assert HeaderDecoder().decode(block, exact, len(headers)) == headers
    for limit, fields in (exact - 1, PLENTY), (PLENTY, len(headers) - 1), (0, 0):
        decoder = HeaderDecoder()
        with pytest.raises(HeaderListTooLarge):
            decoder.decode(block, limit, fields)
        assert decode(decoder, b"\xbe") == [(b"a", b"1")]


def test_the_number_of_fields_is_limited_exactly() -> None:
    decoder = HeaderDecoder()
    for _ in range(4):  # decoded anew, then remembered
        assert len(decoder.decode(b"\x82\x84\x86", PLENTY, 3)) == 3
        with pytest.raises(HeaderListTooLarge):
            decoder.decode(b"\x82\x84\x86", PLENTY, 2)
        with pytest.raises(HeaderListTooLarge):
            decoder.decode(b"\x82\x84\x86", 3 * 38, 3)


def test_large_fields_of_the_table_count_as_often_as_they_are_indexed() -> None:
    decoder = HeaderDecoder()
    decode(decoder, literal(b"big", b"v" * 965))
    assert len(decoder.decode(b"\xbe" * 3, 3000, 3)) == 3
    with pytest.raises(HeaderListTooLarge):
        decoder.decode(b"\xbe" * 3, 2999, 3)


def test_a_flood_of_literals_takes_no_memory() -> None:
    block = b"\x01\x00" * 20_000
    decoder = HeaderDecoder()
    tracemalloc.start()
    try:
        with pytest.raises(HeaderListTooLarge):
            decoder.decode(block, 16384, 100)
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()
