"""What a path means, byte by byte; ``test_routing`` has the plain cases."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siger_gateway.routing.path import is_plain, normalize, other_readings
from siger_gateway.routing.rewrite import PrefixRewrite

UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"


@pytest.mark.parametrize("byte", range(256))
def test_an_encoded_byte_is_decoded_refused_or_kept(byte: int) -> None:
    """RFC 3986 section 6.2.2.2; control characters are nobody's path."""
    for encoded in (b"%%%02X" % byte, b"%%%02x" % byte):
        if byte < 0x20 or byte == 0x7F:
            expected = None
        elif byte in UNRESERVED:
            expected = b"/a" + bytes((byte,)) + b"b/c"
        else:
            expected = b"/a" + encoded.upper() + b"b/c"
        assert normalize(b"/a" + encoded + b"b/c") == expected


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        (b"/", b"/"),
        (b"///", b"/"),
        (b"/a/", b"/a/"),
        (b"/a//", b"/a/"),
        (b"//a", b"/a"),
        (b"/A", b"/A"),
        (b"/a%2fb", b"/a%2Fb"),
        (b"/a%5cb..%5cc", b"/a%5Cb..%5Cc"),
        (b"/%2561", b"/%2561"),  # decoded once: %25 is a percent sign, not the start of a code
        (b"/%252e%252e/x", b"/%252e%252e/x"),
        (b"/a.b/..c/.d./...", b"/a.b/..c/.d./..."),
        (b"/.hidden", b"/.hidden"),
        (b"/a;v=.;w=..", b"/a;v=.;w=.."),
        (b"/..a;x", b"/..a;x"),
        (b"*", b"*"),
    ],
)
def test_the_normal_form(path: bytes, normal: bytes) -> None:
    assert normalize(path) == normal


@pytest.mark.parametrize("dots", [b".", b"..", b"%2e", b"%2E%2e", b".%2e", b"%2E."])
@pytest.mark.parametrize("parameter", [b"", b";", b";x", b";x=1;y", b";/"])
@pytest.mark.parametrize(
    "place",
    [
        *(b"/%b", b"/a/%b", b"/%b/a", b"//%b//a", b"/a/%b/", b"/a/b/c//%b"),
        *(b"/%b%%2fa", b"/a%%2F%b", b"/a%%5C%b%%5cb"),
    ],
)
def test_dot_segments_are_refused_however_they_are_written(
    dots: bytes, parameter: bytes, place: bytes
) -> None:
    assert normalize(place % (dots + parameter)) is None


@pytest.mark.parametrize("path", [b"/\\", b"/a\\b", b"/..\\a", b"/a\\..\\b", b"\\a"])
def test_a_backslash_is_refused(path: bytes) -> None:
    assert not is_plain(path)
    assert normalize(path) is None


@pytest.mark.parametrize(
    "bad", [b"%", b"%2", b"%zz", b"%2g", b"%g2", b"%%", b"%%41", b"%4%31", b"% 1"]
)
def test_what_is_no_code_is_refused(bad: bytes) -> None:
    for path in (b"/" + bad, b"/" + bad + b"/a", b"/a" + bad):
        assert normalize(path) is None


PATHS = st.lists(
    st.one_of(
        st.sampled_from([b"/", b".", b"..", b"%2e", b"%2F", b"%61", b"%", b"a", b"b", b";", b"//"]),
        st.sampled_from([b"%25", b"%2", b"5c", b"\\", b"%00", b"~", b"%7e", b"%C3", b"\xc3"]),
        st.binary(max_size=3),
    ),
    max_size=10,
).map(lambda parts: b"/" + b"".join(parts))


@settings(max_examples=400)
@given(PATHS)
def test_a_normal_form_is_its_own_normal_form_and_climbs_nowhere(path: bytes) -> None:
    normal = normalize(path)
    if normal is None:
        return
    assert normalize(normal) == normal
    assert normal.startswith(b"/")
    assert b"//" not in normal
    for segment in normal.split(b"/"):
        name = segment.partition(b";")[0]
        assert name.lower().replace(b"%2e", b".") not in (b".", b"..")


@settings(max_examples=400)
@given(PATHS)
def test_what_is_plain_needs_no_normal_form(path: bytes) -> None:
    if is_plain(path):
        assert normalize(path) == path


ENCODED = {b"/": [b"/", b"//"], b"a": [b"a", b"%61"], b"b": [b"b", b"%62"], b"~": [b"~", b"%7E"]}


@settings(max_examples=200)
@given(st.data(), st.lists(st.sampled_from([b"a", b"b", b"~", b"ab"]), min_size=1, max_size=4))
def test_a_path_written_in_any_way_is_stripped_of_its_prefix(
    data: st.DataObject, segments: list[bytes]
) -> None:
    depth = data.draw(st.integers(1, len(segments)))
    prefix = b"/" + b"/".join(segments[:depth])
    path = b"/" + b"/".join(segments)
    written = b"".join(data.draw(st.sampled_from(ENCODED[bytes((byte,))])) for byte in path)
    query = data.draw(st.sampled_from([b"", b"?", b"?q=/a%61/../b"]))
    assert normalize(written) == path
    stripped = PrefixRewrite(prefix, b"").apply(written + query, path)
    assert stripped.startswith(b"/")
    rest, _, kept = stripped.partition(b"?")
    assert (b"?" + kept if query else kept) == query
    assert normalize(rest) == (b"/" + b"/".join(segments[depth:]))


@pytest.mark.parametrize(
    ("target", "path", "prefix", "forwarded"),
    [
        (b"/api/model.tar.gz", b"/api/model.tar.gz", b"/api", b"/model.tar.gz"),
        (b"/api/api/x", b"/api/api/x", b"/api", b"/api/x"),
        (b"/api/", b"/api/", b"/api", b"/"),
        (b"/api/a%2Fb", b"/api/a%2Fb", b"/api", b"/a%2Fb"),
        (b"/%61pi/a%2Fb?x", b"/api/a%2Fb", b"/api", b"/a%2Fb?x"),
        (b"/api?/api/x", b"/api", b"/api", b"/?/api/x"),
        (b"/a/b/c", b"/a/b/c", b"/a/b", b"/c"),
        (b"/a//b/c", b"/a/b/c", b"/a/b", b"/c"),
    ],
)
def test_only_the_prefix_is_stripped(
    target: bytes, path: bytes, prefix: bytes, forwarded: bytes
) -> None:
    assert PrefixRewrite(prefix, b"").apply(target, path) == forwarded


@pytest.mark.parametrize(
    ("path", "others"),
    [
        (b"/a/b", []),
        (b"/a%20b/100%25", []),
        (b"/a%2Fb", [b"/a/b"]),
        (b"/a%5Cb", [b"/a/b"]),
        (b"/a%2F", [b"/a/"]),
        (b"/%2Fa", [b"/a"]),
        (b"/%2F", [b"/"]),
        (b"/a;v=1/b", [b"/a/b"]),
        (b"/;x/a", [b"/a"]),
        (b"/a;", [b"/a"]),
        (b"/;", [b"/"]),
        (b"/a%3Bv=1", [b"/a", b"/a;v=1"]),
        (b"/users/%40me", [b"/users/@me"]),
        (b"/a%252Fb", []),  # decoded once
        (b"/stra%C3%9Fe%3F%23", []),
    ],
)
def test_what_a_service_may_take_a_path_for(path: bytes, others: list[bytes]) -> None:
    assert sorted(other_readings(path)) == others
