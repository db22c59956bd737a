"""Huffman-coded strings are read and written as the library ``hpack`` does it, faults included."""

from __future__ import annotations

import pytest
from hpack.exceptions import HPACKDecodingError
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.huffman_table import decode_huffman
from hypothesis import given, settings
from hypothesis import strategies as st

from siger_gateway.http2 import huffman
from siger_gateway.http2.faults import COMPRESSION_ERROR, HpackError
from siger_gateway.http2.huffman import decode, encode

library = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)


def bits(text: str) -> bytes:
    return int(text or "0", 2).to_bytes(len(text) // 8, "big")


def test_the_code_is_that_of_appendix_b() -> None:
    assert [int(code, 2) for code in huffman._CODES] == REQUEST_CODES
    assert [len(code) for code in huffman._CODES] == REQUEST_CODES_LENGTH


@pytest.mark.parametrize(
    ("value", "coded"),
    [
        (b"", ""),
        (b"www.example.com", "f1e3c2e5f23a6ba0ab90f4ff"),
        (b"no-cache", "a8eb10649cbf"),
        (b"custom-value", "25a849e95bb8e8b4bf"),
        (b"Mon, 21 Oct 2013 20:13:21 GMT", "d07abe941054d444a8200595040b8166e082a62d1bff"),
        (b"\0", "ffc7"),
    ],
)
def test_examples_of_the_rfc(value: bytes, coded: str) -> None:
    assert encode(value) == bytes.fromhex(coded)
    assert decode(bytes.fromhex(coded)) == value


def test_each_byte_is_decoded_after_each_other() -> None:
    for first in range(256):
        value = b"".join(bytes((first, second)) for second in range(256))
        assert decode(library.encode(value)) == value


@given(st.binary(max_size=300))
def test_strings_are_encoded_as_by_the_library(value: bytes) -> None:
    assert encode(value) == library.encode(value)
    assert decode(encode(value)) == value


@settings(max_examples=300)
@given(
    st.binary(max_size=8)
    | st.binary(max_size=8).map(lambda end: b"\xff\xff\xff" + end)
    | st.tuples(st.text("0aeZ~").map(str.encode), st.binary(max_size=3)).map(
        lambda parts: encode(parts[0]) + parts[1]
    )
)
def test_any_bytes_are_decoded_or_refused_as_by_the_library(coded: bytes) -> None:
    try:
        expected = decode_huffman(coded)
    except HPACKDecodingError:
        with pytest.raises(HpackError):
            decode(coded)
    else:
        assert decode(coded) == expected


@pytest.mark.parametrize(
    ("coded", "problem"),
    [
        (bits("00011" + "000"), "padding"),
        (bits("00011" + "110"), "padding"),
        (bits("00011" + "111" + "11111111"), "padding"),
        (bits("11111111"), "padding"),
        (bits("1" * 30 + "11"), "EOS"),
        (bits("1" * 30 + "00011" + "11111"), "EOS"),
        (bits("00011" + "1" * 30 + "00000"), "EOS"),
    ],
)
def test_wrong_padding_and_eos_are_refused(coded: bytes, problem: str) -> None:
    for _ in range(2):  # what is refused is not remembered
        with pytest.raises(HpackError, match=problem) as caught:
            decode(coded)
        assert caught.value.code == COMPRESSION_ERROR


@pytest.mark.parametrize("padding", range(8))
def test_up_to_seven_ones_are_padding(padding: int) -> None:
    zeros = next(count for count in range(8) if (5 * count + padding) % 8 == 0)
    assert decode(bits("00000" * zeros + "1" * padding)) == b"0" * zeros


def test_peers_cannot_fill_the_memory_with_strings() -> None:
    for number in range(2 * huffman.MAX_REMEMBERED):
        decode(encode(b"%d" % number))
    assert 0 < len(huffman._remembered) <= huffman.MAX_REMEMBERED
    decode(encode(b"a" * 10 * huffman.LONGEST_REMEMBERED))
    assert max(map(len, huffman._remembered)) <= huffman.LONGEST_REMEMBERED
