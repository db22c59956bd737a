"""Header blocks beside the library ``hpack``, in both directions, and what the encoder writes."""

from __future__ import annotations

import tracemalloc

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siger_gateway.http.headers import Headers
from siger_gateway.http2 import hpack_encoder
from siger_gateway.http2.faults import HeaderListTooLarge, HpackError
from siger_gateway.http2.hpack_decoder import HeaderDecoder
from siger_gateway.http2.hpack_encoder import GUESSABLE, SENSITIVE, UNIQUE, HeaderEncoder
from tests.header_blocks import decode, integer, literal, update

short = st.binary(max_size=12)
names = st.sampled_from([b"a", b"te", b":path", b":status", b"cookie", b"x-id"]) | short
values = st.sampled_from([b"", b"/", b"200", b"trailers", b"v" * 60, b"w" * 300]) | short
fields = st.tuples(names, values)
header_lists = st.lists(st.lists(st.tuples(fields, st.booleans()), max_size=8), max_size=8)


@settings(max_examples=60, deadline=None)
@given(header_lists, st.booleans(), st.lists(st.integers(0, 300), max_size=8))
def test_blocks_of_the_library_are_decoded(
    lists: list[list[tuple[tuple[bytes, bytes], bool]]], coded: bool, sizes: list[int]
) -> None:
    encoder, decoder = hpack.Encoder(), HeaderDecoder(300)
    encoder.header_table_size = 300
    for number, marked in enumerate(lists):
        if number < len(sizes):
            encoder.header_table_size = sizes[number]
        headers = [
            hpack.NeverIndexedHeaderTuple(*field) if sensitive else hpack.HeaderTuple(*field)
            for field, sensitive in marked
        ]
        assert decode(decoder, encoder.encode(headers, huffman=coded)) == headers
        assert (decoder.never_indexed or set()) <= {name for (name, _), mark in marked if mark}
        assert decoder._size == encoder.header_table._current_size


representations = st.one_of(
    st.integers(0x81, 0xFE).map(lambda byte: bytes([byte])),
    st.integers(0x81, 0x91).map(lambda byte: bytes([byte])),
    st.integers(0xBE, 0xC3).map(lambda byte: bytes([byte])),
    st.builds(literal, names, values, st.sampled_from([0x40, 0x40, 0x00, 0x10])),
    st.builds(
        lambda index, value: integer(index, 0x3F, 0x40) + integer(len(value), 127) + value,
        st.integers(1, 65),
        values,
    ),
)
blocks = st.builds(
    lambda updates, parts, rest: b"".join([*map(update, updates), *parts, rest]),
    st.just([]) | st.lists(st.integers(0, 210), max_size=2),
    st.lists(representations, max_size=8),
    st.just(b"") | st.binary(max_size=4),
)


@settings(max_examples=120, deadline=None)
@given(st.lists(blocks, max_size=8))
def test_any_blocks_are_decoded_or_refused_as_by_the_library(sequence: list[bytes]) -> None:
    ours, theirs = HeaderDecoder(200), hpack.Decoder()
    theirs.max_allowed_table_size = theirs.header_table_size = 200
    for block in sequence:
        try:
            expected = [tuple(field) for field in theirs.decode(block, raw=True)]
        except (hpack.HPACKError, IndexError):
            with pytest.raises(HpackError):
                decode(ours, block)
            return
        try:
            headers = decode(ours, block)
        except HpackError as refused:
            if "wrong place" in refused.detail or "integer" in refused.detail:
                return  # the library has no such limits
            raise
        assert headers == expected
        assert ours._size == theirs.header_table._current_size


@settings(max_examples=120, deadline=None)
@given(st.lists(blocks, min_size=1, max_size=4), st.lists(st.integers(0, 3), max_size=20))
def test_remembered_blocks_mean_what_they_would_mean_anew(
    choices: list[bytes], order: list[int]
) -> None:
    remembering, forgetful = HeaderDecoder(200), HeaderDecoder(200)

    def outcome(decoder: HeaderDecoder, block: bytes) -> object:
        try:
            return decoder.decode(block, 400, 8), decoder.never_indexed
        except HeaderListTooLarge:
            return "too large"
        except HpackError:
            return "refused"

    for number in order:
        block = choices[number % len(choices)]
        forgetful._blocks.clear()
        seen = outcome(remembering, block)
        assert seen == outcome(forgetful, block)
        assert repr(remembering) == repr(forgetful)
        if seen == "refused":
            return


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(fields, max_size=8), max_size=8))
def test_the_library_decodes_what_is_encoded(lists: list[Headers]) -> None:
    encoder, theirs, ours = HeaderEncoder(), hpack.Decoder(), HeaderDecoder()
    for headers in lists:
        block = encoder.encode(headers)
        assert encoder.encode(headers) == block == HeaderEncoder().encode(headers)
        assert theirs.decode(block, raw=True) == headers
        assert decode(ours, block) == headers
        guarding = HeaderEncoder()
        for field in headers[::2]:
            guarding.never_index(field)
        guarded = guarding.encode(headers)
        assert theirs.decode(guarded, raw=True) == headers
        assert decode(ours, guarded) == headers
        assert (ours.never_indexed or set()) >= {name for name, _ in headers[::2]}
    assert "0 entries, 0 of 4096 bytes" in repr(ours)


@pytest.mark.parametrize(
    ("field", "block"),
    [
        ((b":method", b"GET"), b"\x82"),
        ((b":status", b"200"), b"\x88"),
        ((b"www-authenticate", b""), b"\xbd"),
        ((b":path", b"/a"), b"\x04\x02/a"),
        ((b"accept-charset", b"a"), b"\x0f\x00\x01a"),
        ((b"content-type", b"a"), b"\x0f\x10\x01a"),
        ((b"x-a", b"b"), b"\x00\x03x-a\x01b"),
        ((b"x-a", b"v" * 127), b"\x00\x03x-a\x7f\x00" + b"v" * 127),
        ((b"x-a", b"v" * 300), b"\x00\x03x-a\x7f\xad\x01" + b"v" * 300),
        ((b"authorization", b"s"), b"\x1f\x08\x01s"),
        ((b"x-api-key", b"s"), b"\x10\x09x-api-key\x01s"),
    ],
)
def test_a_field_is_written_in_the_shortest_way_without_the_dynamic_table(
    field: tuple[bytes, bytes], block: bytes
) -> None:
    encoder = HeaderEncoder()
    for _ in range(2):
        assert encoder.encode([field]) == block


@pytest.mark.parametrize("name", sorted(SENSITIVE))
@pytest.mark.parametrize("value", [b"", b"short", b"v" * 100])
def test_credentials_are_never_indexed(name: bytes, value: bytes) -> None:
    decoder = HeaderDecoder()
    decode(decoder, HeaderEncoder().encode([(b"a", b"b"), (name, value)]))
    assert decoder.never_indexed == {name}


def test_a_cookie_that_could_be_guessed_is_never_indexed() -> None:
    decoder = HeaderDecoder()
    decode(decoder, HeaderEncoder().encode([(b"cookie", b"c" * (GUESSABLE - 1))]))
    assert decoder.never_indexed == {b"cookie"}
    decode(decoder, HeaderEncoder().encode([(b"cookie", b"c" * GUESSABLE)]))
    assert decoder.never_indexed is None


def test_headers_cannot_fill_the_memory() -> None:
    encoder = HeaderEncoder()
    for number in range(2 * hpack_encoder.MAX_REMEMBERED):
        encoder.encode([(b"x-a", b"%d" % number)])
    assert 0 < len(encoder._fields) <= hpack_encoder.MAX_REMEMBERED
    encoder.encode([(b"x-a", b"v" * hpack_encoder.LONGEST_REMEMBERED)])
    assert max(map(len, encoder._fields.values())) <= hpack_encoder.LONGEST_REMEMBERED


@pytest.mark.parametrize("field", [(b"x-a", b"secret"), (b"x-a", b"s" * 2000), (UNIQUE[0], b"1")])
def test_a_field_that_came_as_never_indexed_goes_on_so(field: tuple[bytes, bytes]) -> None:
    encoder = HeaderEncoder()
    plain = encoder.encode([field])
    decoder = HeaderDecoder(never_index=encoder.never_index)
    for _ in range(4):
        assert decode(decoder, literal(*field, 0x10)) == [field]
        guarded = encoder.encode([field])
        assert guarded == literal(*field, 0x10) != plain
        for number in range(hpack_encoder.MAX_REMEMBERED):
            encoder.encode([(b"x-b", b"%d" % number)])
        assert encoder.encode([field]) == guarded, "whatever else was written meanwhile"


@pytest.mark.parametrize(("number", "length"), [(2000, 500), (20_000, 1)])
def test_fields_that_came_as_never_indexed_cannot_fill_the_memory(number: int, length: int) -> None:
    encoder = HeaderEncoder()
    tracemalloc.start()
    try:
        for one in range(number):
            encoder.never_index((b"x-a", b"%d" % one * length))
        assert tracemalloc.get_traced_memory()[0] < 3 * hpack_encoder.NEVER_INDEXED_BYTES
    finally:
        tracemalloc.stop()
    fields = [(b"x-a", b"%d" % one * length) for one in (0, number - 1)]
    assert encoder.encode([fields[1]])[0] == 0x10
    assert encoder.encode([fields[0]])[0] == 0x00


@pytest.mark.parametrize("name", UNIQUE)
def test_values_that_never_come_again_are_not_remembered(name: bytes) -> None:
    encoder = HeaderEncoder()
    assert encoder.encode([(name, b"1")]) == literal(name, b"1", 0)
    assert repr(encoder) == "<HeaderEncoder 0 fields remembered>"
