"""Header blocks that are remembered: never for longer than they mean the same, never too many."""

from __future__ import annotations

import pytest

from siger_gateway.http2 import hpack_decoder
from siger_gateway.http2.faults import HeaderListTooLarge, HpackError
from siger_gateway.http2.hpack_decoder import HeaderDecoder
from tests.header_blocks import decode, literal, update


def test_a_refused_block_is_not_remembered() -> None:
    decoder = HeaderDecoder()
    for _ in range(4):
        with pytest.raises(HeaderListTooLarge):
            decoder.decode(b"\x82" * 10, 100, 100)
    assert not decoder._blocks


def test_a_block_that_comes_again_gives_the_same_list() -> None:
    decoder = HeaderDecoder()
    block = b"\x82\x84" + literal(b"a", b"1", 0x00) + literal(b"secret", b"2", 0x10)
    decode(decoder, block)
    second = decode(decoder, block)
    decode(decoder, b"\x82")
    assert decoder.never_indexed is None
    assert decode(decoder, block) is second
    assert decoder.never_indexed == {b"secret"}


@pytest.mark.parametrize("change", [literal(b"b", b"2"), update(0), literal(b"b", b"v" * 5000)])
def test_a_changed_table_changes_what_a_block_means(change: bytes) -> None:
    decoder = HeaderDecoder()
    decode(decoder, literal(b"a", b"1"))
    for _ in range(3):
        assert decode(decoder, b"\xbe") == [(b"a", b"1")]
    with pytest.raises(HeaderListTooLarge):
        decoder.decode(change + b"\x82", 10, 10)
    try:
        assert decode(decoder, b"\xbe") == [(b"b", b"2")]
    except HpackError:
        assert "0 entries" in repr(decoder)


def test_peers_cannot_fill_the_memory_with_blocks() -> None:
    decoder = HeaderDecoder()
    for number in range(3 * hpack_decoder.MAX_BLOCKS):
        for _ in range(2):
            decode(decoder, literal(b"id", b"%d" % number, 0))
        assert len(decoder._blocks) <= hpack_decoder.MAX_BLOCKS
        assert len(decoder._seen) <= hpack_decoder.MAX_BLOCKS
    assert decoder._blocks
    for _ in range(3):
        decode(decoder, literal(b"id", b"1" * hpack_decoder.LONGEST_REMEMBERED, 0))
    assert max(map(len, decoder._blocks)) <= hpack_decoder.LONGEST_REMEMBERED


def test_a_block_that_changes_the_table_does_so_each_time() -> None:
    decoder = HeaderDecoder()
    for count in range(1, 6):
        decode(decoder, literal(b"a", b"1"))
        assert f"{count} entries" in repr(decoder)


def test_blocks_that_come_once_are_not_kept() -> None:
    decoder = HeaderDecoder()
    for number in range(100):
        decode(decoder, literal(b"id", b"%d" % number, 0))
    assert not decoder._blocks
