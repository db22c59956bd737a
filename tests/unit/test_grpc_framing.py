"""Messages come out of a byte stream as they went in, and never larger than allowed."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siger_gateway.grpc.framing import BadFrame, Messages, frame
from siger_gateway.grpc.status import Code


def compressed(data: bytes) -> bytes:
    return b"\x01" + struct.pack(">I", len(data)) + data


def refusal(messages: Messages, data: bytes) -> Code:
    with pytest.raises(BadFrame) as caught:
        messages.feed(data)
    return caught.value.code


@given(st.lists(st.binary(max_size=50), max_size=8), st.lists(st.integers(0, 40), max_size=20))
def test_messages_come_out_however_the_stream_is_cut(parts: list[bytes], sizes: list[int]) -> None:
    stream, start, found = b"".join(map(frame, parts)), 0, []
    messages = Messages()
    for size in [*sizes, len(stream)]:
        found += messages.feed(stream[start : start + size])
        start += size
    messages.end()
    assert found == parts


def test_a_message_has_a_flag_and_its_length_before_it() -> None:
    assert frame(b"abc") == b"\x00\x00\x00\x00\x03abc"


def test_a_stream_that_ends_within_a_message_is_bad() -> None:
    messages = Messages()
    assert messages.feed(frame(b"abc")[:-1]) == []
    with pytest.raises(BadFrame, match="within a message"):
        messages.end()


def test_a_message_past_the_limit_is_refused_by_its_length_alone() -> None:
    assert Messages(limit=3).feed(frame(b"abc")) == [b"abc"]
    assert refusal(Messages(limit=3), frame(b"abcd")[:5]) is Code.RESOURCE_EXHAUSTED


def test_unknown_flags_are_refused() -> None:
    with pytest.raises(BadFrame, match="flags that are not known"):
        Messages(b"gzip").feed(b"\x80\x00\x00\x00\x00")


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [(b"gzip", gzip.compress(b"a" * 99, mtime=0)), (b"deflate", zlib.compress(b"a" * 99))],
)
def test_compressed_messages_are_unpacked_and_others_are_left(
    encoding: bytes, packed: bytes
) -> None:
    assert Messages(encoding).feed(compressed(packed) + frame(b"b")) == [b"a" * 99, b"b"]


@pytest.mark.parametrize("encoding", [b"", b"identity"])
def test_a_compressed_message_without_an_encoding_is_refused(encoding: bytes) -> None:
    assert refusal(Messages(encoding), compressed(gzip.compress(b"a", mtime=0))) is Code.INTERNAL


def test_an_unknown_encoding_is_not_implemented() -> None:
    with pytest.raises(BadFrame) as caught:
        Messages(b"snappy")
    assert caught.value.code is Code.UNIMPLEMENTED


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"no gzip",
        gzip.compress(b"abc", mtime=0)[:-1],
        gzip.compress(b"abc", mtime=0) + b"x",
        zlib.compress(b"a"),
    ],
)
def test_badly_compressed_messages_are_refused(packed: bytes) -> None:
    assert refusal(Messages(b"gzip"), compressed(packed)) is Code.INTERNAL


def test_a_bomb_is_not_unpacked() -> None:
    bomb = compressed(gzip.compress(b"\0" * 50_000_000, compresslevel=1))
    messages = Messages(b"gzip", limit=1_000_000)
    tracemalloc.start()
    try:
        assert refusal(messages, bomb) is Code.RESOURCE_EXHAUSTED
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_a_message_of_exactly_the_limit_is_unpacked() -> None:
    packed = compressed(gzip.compress(b"a" * 99, mtime=0))
    assert Messages(b"gzip", limit=99).feed(packed) == [b"a" * 99]
    assert refusal(Messages(b"gzip", limit=98), packed) is Code.RESOURCE_EXHAUSTED
