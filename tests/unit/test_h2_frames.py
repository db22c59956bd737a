"""HTTP/2 frames: in any pieces, beside the library ``hyperframe``, and each rule on their form."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hyperframe import frame as hyper
from hypothesis import given
from hypothesis import strategies as st

from siger_gateway.http2 import faults, frames
from siger_gateway.http2.faults import (
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    PROTOCOL_ERROR,
    ConnectionFault,
    StreamFault,
)
from siger_gateway.http2.frames import ACK, PADDED, PRIORITY_FIELDS, Frame, FrameReader

stream_ids = st.integers(1, 2**31 - 1)
some_bytes = st.binary(max_size=40)


def read(data: bytes, max_frame_size: int = 16384) -> list[Frame]:
    reader = FrameReader(max_frame_size)
    seen = reader.receive(data)
    assert reader.fault is None
    return seen


def parsed(data: bytes) -> list[hyper.Frame]:
    """The frames as ``hyperframe`` reads them."""
    found = []
    view = memoryview(data)
    while view:
        one, length = hyper.Frame.parse_frame_header(view[:9])
        one.parse_body(view[9 : 9 + length])
        found.append(one)
        view = view[9 + length :]
    return found


# Reading frames.


@given(
    st.lists(
        st.tuples(st.integers(0, 255), st.integers(0, 255), st.integers(0, 2**31 - 1), some_bytes),
        max_size=6,
    ),
    st.lists(st.integers(1, 30)),
)
def test_frames_are_read_in_any_pieces(expected: list[Frame], lengths: list[int]) -> None:
    data = b"".join(frames.frame(*one) for one in expected)
    assert read(data) == expected
    reader, seen, rest = FrameReader(), [], data
    for length in lengths or [1]:
        seen += reader.receive(rest[:length])
        rest = rest[length:]
    for byte in rest:
        seen += reader.receive(bytes([byte]))
        assert reader.receive(b"") == []
    assert seen == expected
    assert repr(reader) == "<FrameReader 0 bytes waiting for 0 more, None>"


def test_a_frame_comes_as_soon_as_it_is_complete() -> None:
    reader = FrameReader()
    data = frames.ping(b"12345678") + frames.settings_frame([])
    assert reader.receive(data[:16]) == []
    assert reader.receive(data[16:17]) == [(frames.PING, 0, 0, b"12345678")]
    assert reader.receive(data[17:25]) == []
    assert reader.receive(data[25:]) == [(frames.SETTINGS, 0, 0, b"")]


def test_the_reserved_bit_is_ignored() -> None:
    assert read(b"\0\0\1\0\0\x80\0\0\5x") == [(frames.DATA, 0, 5, b"x")]


def test_a_frame_that_is_too_long_is_refused_before_its_payload_comes() -> None:
    reader = FrameReader(16384)
    data = frames.frame(frames.DATA, 0, 1, bytes(16384))
    assert reader.receive(data) == [(frames.DATA, 0, 1, bytes(16384))]
    header = b"\0\x40\1\0\0\0\0\0\1"
    assert reader.receive(frames.ping(bytes(8)) + header[:8]) == [(frames.PING, 0, 0, bytes(8))]
    assert reader.fault is None
    assert reader.receive(header[8:]) == []
    assert reader.fault is not None
    assert (reader.fault.code, reader.fault.detail) == (
        FRAME_SIZE_ERROR,
        "a data frame of 16385 bytes",
    )


def test_frames_before_a_fault_are_valid_and_none_follow() -> None:
    reader = FrameReader(16384)
    ping = frames.ping(bytes(8))
    assert reader.receive(ping + b"\xff\xff\xff\0\0\0\0\0\1" + ping) == [
        (frames.PING, 0, 0, bytes(8))
    ]
    assert reader.fault is not None
    assert reader.receive(ping) == []


def test_a_larger_limit_holds_for_the_next_frame() -> None:
    reader = FrameReader(16384)
    reader.max_frame_size = 20000
    assert len(reader.receive(frames.frame(frames.DATA, 0, 1, bytes(20000)))) == 1


def test_the_pieces_of_a_large_frame_are_joined_once() -> None:
    data = frames.frame(frames.DATA, 0, 1, bytes(frames.LARGEST_MAX_FRAME_SIZE))
    reader = FrameReader(frames.LARGEST_MAX_FRAME_SIZE)
    for start in range(0, len(data) - 65536, 65536):
        assert reader.receive(data[start : start + 65536]) == []
        # The first piece stands by itself; the rest has been appended, not joined.
        assert max(map(len, reader._pieces)) <= 65536
    assert len(reader.receive(data[start + 65536 :])) == 1
    assert not reader._pieces


# What frames say.


@given(stream_ids, some_bytes, st.integers(0, 60))
def test_padding_of_data_is_taken_away(stream_id: int, data: bytes, padding: int) -> None:
    one = hyper.DataFrame(stream_id, data, pad_length=padding, flags=["PADDED", "END_STREAM"])
    [(_, flags, number, payload)] = read(one.serialize())
    assert number == stream_id
    assert flags & frames.END_STREAM
    assert frames.read_data(flags, stream_id, payload) == data
    assert frames.read_data(0, stream_id, payload) == payload


@given(stream_ids, some_bytes, st.integers(0, 60), st.sets(st.sampled_from(["PADDED", "PRIORITY"])))
def test_padding_and_priority_of_headers_are_taken_away(
    stream_id: int, block: bytes, padding: int, flags: set[str]
) -> None:
    one = hyper.HeadersFrame(
        stream_id, block, pad_length=padding if "PADDED" in flags else 0, flags=[*flags]
    )
    one.depends_on, one.stream_weight, one.exclusive = stream_id - 1, 15, True
    [(_, bits, _, payload)] = read(one.serialize())
    assert frames.read_headers(bits, stream_id, payload) == block


settings_values = st.one_of(
    st.tuples(st.sampled_from([1, 3, 6, 9, 0xFFFF]), st.integers(0, 2**32 - 1)),
    st.tuples(st.sampled_from([2, 8]), st.integers(0, 1)),
    st.tuples(st.just(4), st.integers(0, 2**31 - 1)),
    st.tuples(st.just(5), st.integers(2**14, 2**24 - 1)),
)


@given(st.lists(settings_values))
def test_settings_are_read_in_their_order(settings: list[tuple[int, int]]) -> None:
    [(kind, flags, stream_id, payload)] = read(frames.settings_frame(settings))
    assert (kind, flags, stream_id) == (frames.SETTINGS, 0, 0)
    assert frames.read_settings(flags, stream_id, payload) == settings
    [one] = parsed(frames.settings_frame(settings))
    assert one.settings == dict(settings)


def test_an_acknowledgement_has_no_settings() -> None:
    [(kind, flags, stream_id, payload)] = read(frames.SETTINGS_ACK)
    assert (kind, flags) == (frames.SETTINGS, ACK)
    assert frames.read_settings(flags, stream_id, payload) == []


@given(st.integers(0, 2**31 - 1), st.integers(1, 2**31 - 1))
def test_window_updates_are_read_as_written(stream_id: int, increment: int) -> None:
    data = frames.window_update(stream_id, increment)
    [(kind, _, number, payload)] = read(data)
    assert (kind, number) == (frames.WINDOW_UPDATE, stream_id)
    assert frames.read_window_update(number, payload) == increment
    [one] = parsed(data)
    assert (one.stream_id, one.window_increment) == (stream_id, increment)


@given(stream_ids, st.integers(0, 2**32 - 1))
def test_resets_are_read_as_written(stream_id: int, code: int) -> None:
    data = frames.rst_stream(stream_id, code)
    [(kind, _, number, payload)] = read(data)
    assert (kind, number) == (frames.RST_STREAM, stream_id)
    assert frames.read_rst_stream(number, payload) == code
    assert parsed(data)[0].error_code == code


@given(st.integers(0, 2**31 - 1), st.integers(0, 2**32 - 1), st.text("no é", max_size=20))
def test_goaways_are_read_as_written(last: int, code: int, detail: str) -> None:
    data = frames.goaway(last, code, detail)
    [(kind, _, stream_id, payload)] = read(data)
    assert (kind, stream_id) == (frames.GOAWAY, 0)
    assert frames.read_goaway(stream_id, payload) == (last, code, detail.encode())
    [one] = parsed(data)
    assert (one.last_stream_id, one.error_code, one.additional_data) == (
        last,
        code,
        detail.encode(),
    )


def test_a_ping_is_answered_with_its_payload() -> None:
    [(kind, flags, stream_id, payload)] = read(frames.ping(b"12345678"))
    assert (kind, flags) == (frames.PING, 0)
    answer = frames.ping_ack(frames.read_ping(stream_id, payload))
    assert read(answer) == [(frames.PING, ACK, 0, b"12345678")]
    assert parsed(answer)[0].flags == {"ACK"}


def test_reserved_bits_within_payloads_are_ignored() -> None:
    assert frames.read_window_update(1, b"\x80\0\0\1") == 1
    assert frames.read_goaway(0, b"\x80\0\0\7\0\0\0\0") == (7, 0, b"")


# Each fault of the form.

FOUR, FIVE, EIGHT = bytes(4), b"\0\0\0\0\x10", bytes(8)
ON_3 = b"\x80\0\0\3\x10"


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda: frames.read_data(0, 0, b""), PROTOCOL_ERROR),
        (lambda: frames.read_data(PADDED, 1, b""), FRAME_SIZE_ERROR),
        (lambda: frames.read_data(PADDED, 1, b"\1"), PROTOCOL_ERROR),
        (lambda: frames.read_data(PADDED, 1, b"\3xx"), PROTOCOL_ERROR),
        (lambda: frames.read_headers(0, 0, b""), PROTOCOL_ERROR),
        (lambda: frames.read_headers(PADDED, 1, b""), FRAME_SIZE_ERROR),
        (lambda: frames.read_headers(PADDED, 1, b"\2x"), PROTOCOL_ERROR),
        (lambda: frames.read_headers(PRIORITY_FIELDS, 1, FOUR), FRAME_SIZE_ERROR),
        (lambda: frames.read_headers(PRIORITY_FIELDS | PADDED, 1, b"\0" + FOUR), PROTOCOL_ERROR),
        (lambda: frames.read_headers(PRIORITY_FIELDS | PADDED, 1, b"\1" + FIVE), PROTOCOL_ERROR),
        (lambda: frames.read_headers(PRIORITY_FIELDS, 3, ON_3 + b"\x82"), PROTOCOL_ERROR),
        (lambda: frames.read_continuation(0, b""), PROTOCOL_ERROR),
        (lambda: frames.check_priority(0, FIVE), PROTOCOL_ERROR),
        (lambda: frames.read_rst_stream(0, FOUR), PROTOCOL_ERROR),
        (lambda: frames.read_rst_stream(1, bytes(3)), FRAME_SIZE_ERROR),
        (lambda: frames.read_rst_stream(1, bytes(5)), FRAME_SIZE_ERROR),
        (lambda: frames.read_settings(0, 1, b""), PROTOCOL_ERROR),
        (lambda: frames.read_settings(ACK, 0, bytes(6)), FRAME_SIZE_ERROR),
        (lambda: frames.read_settings(0, 0, bytes(5)), FRAME_SIZE_ERROR),
        (lambda: frames.read_settings(0, 0, bytes(7)), FRAME_SIZE_ERROR),
        (lambda: frames.read_settings(0, 0, b"\0\2\0\0\0\2"), PROTOCOL_ERROR),
        (lambda: frames.read_settings(0, 0, b"\0\10\0\0\0\2"), PROTOCOL_ERROR),
        (lambda: frames.read_settings(0, 0, b"\0\4\x80\0\0\0"), FLOW_CONTROL_ERROR),
        (lambda: frames.read_settings(0, 0, b"\0\5\0\0\x3f\xff"), PROTOCOL_ERROR),
        (lambda: frames.read_settings(0, 0, b"\0\5\1\0\0\0"), PROTOCOL_ERROR),
        (lambda: frames.read_settings(0, 0, b"\0\1\0\0\0\0\0\5\0\0\0\0"), PROTOCOL_ERROR),
        (lambda: frames.read_ping(1, EIGHT), PROTOCOL_ERROR),
        (lambda: frames.read_ping(0, bytes(7)), FRAME_SIZE_ERROR),
        (lambda: frames.read_ping(0, bytes(9)), FRAME_SIZE_ERROR),
        (lambda: frames.read_goaway(1, EIGHT), PROTOCOL_ERROR),
        (lambda: frames.read_goaway(0, bytes(7)), FRAME_SIZE_ERROR),
        (lambda: frames.read_window_update(0, bytes(3)), FRAME_SIZE_ERROR),
        (lambda: frames.read_window_update(1, bytes(5)), FRAME_SIZE_ERROR),
        (lambda: frames.read_window_update(0, FOUR), PROTOCOL_ERROR),
        (lambda: frames.read_window_update(0, b"\x80\0\0\0"), PROTOCOL_ERROR),
    ],
)
def test_a_fault_of_the_connection(call: Callable[[], object], code: int) -> None:
    with pytest.raises(ConnectionFault) as caught:
        call()
    assert caught.value.code == code
    assert str(caught.value) == f"{faults.code_name(code)}: {caught.value.detail}"


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda: frames.check_priority(3, FOUR), FRAME_SIZE_ERROR),
        (lambda: frames.check_priority(3, ON_3 + b"x"), FRAME_SIZE_ERROR),
        (lambda: frames.check_priority(3, ON_3), PROTOCOL_ERROR),
        (lambda: frames.read_window_update(3, FOUR), PROTOCOL_ERROR),
    ],
)
def test_a_fault_of_one_stream(call: Callable[[], object], code: int) -> None:
    with pytest.raises(StreamFault) as caught:
        call()
    assert (caught.value.stream_id, caught.value.code) == (3, code)


def test_what_is_just_valid_is_taken() -> None:
    assert frames.read_data(PADDED, 1, b"\2xx") == b""
    assert frames.read_headers(PRIORITY_FIELDS | PADDED, 1, b"\0" + FIVE) == b""
    assert frames.read_headers(PRIORITY_FIELDS, 3, b"\0\0\0\1\x10\x82") == b"\x82"
    assert frames.read_continuation(1, b"x") == b"x"
    frames.check_priority(5, ON_3)


# Writing.


@given(stream_ids, st.binary(max_size=60), st.booleans(), st.integers(1, 30))
def test_a_body_is_cut_into_frames(stream_id: int, data: bytes, end: bool, size: int) -> None:
    for body in (data, memoryview(data)):
        found = parsed(frames.data_frames(stream_id, body, end, size))
        assert b"".join(one.data for one in found) == data
        assert all(0 < len(one.data) <= size for one in found if data)
        assert len(found) == max(1, -(-len(data) // size))
        assert {one.stream_id for one in found} == {stream_id}
        assert [one.flags == {"END_STREAM"} for one in found] == [
            *[False] * (len(found) - 1),
            end,
        ]
    assert parsed(frames.data_frame(stream_id, data, end))[0].data == data
    if len(data) <= size:
        assert frames.data_frame(stream_id, data, end) == frames.data_frames(
            stream_id, data, end, size
        )


@given(stream_ids, st.binary(max_size=60), st.booleans(), st.integers(1, 30))
def test_a_header_block_is_continued(stream_id: int, block: bytes, end: bool, size: int) -> None:
    first, *others = parsed(frames.headers_frames(stream_id, block, end, size))
    assert isinstance(first, hyper.HeadersFrame)
    assert ("END_STREAM" in first.flags) == end
    assert all(isinstance(one, hyper.ContinuationFrame) for one in others)
    every = [first, *others]
    assert b"".join(one.data for one in every) == block
    assert all(len(one.data) <= size for one in every)
    assert ["END_HEADERS" in one.flags for one in every] == [*[False] * len(others), True]
    assert {one.stream_id for one in every} == {stream_id}


def test_codes_and_types_have_names() -> None:
    assert faults.code_name(0) == "no_error"
    assert faults.code_name(faults.ENHANCE_YOUR_CALM) == "enhance_your_calm"
    assert faults.code_name(faults.HTTP_1_1_REQUIRED) == "http_1_1_required"
    assert faults.code_name(14) == faults.code_name(-1) == "unknown"
    assert frames.type_name(frames.CONTINUATION) == "continuation"
    assert frames.type_name(10) == "unknown"
