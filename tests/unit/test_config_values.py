"""Properties of the loader: round trips of durations and sizes, and no surprises for any text."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from siger_gateway.config.load import ConfigError, Loaded, loads
from siger_gateway.config.names import BadText
from siger_gateway.config.schema import Config
from siger_gateway.config.units import (
    MAX_DURATION,
    MAX_SIZE,
    format_duration,
    format_percent,
    format_size,
    parse_duration,
    parse_percent,
    parse_size,
)


@given(st.floats(min_value=0, max_value=MAX_DURATION, allow_subnormal=False))
def test_every_duration_survives_a_round_trip_exactly(seconds: float) -> None:
    if seconds > 1e-9:  # below that the text needs more digits than a sane file holds
        assert parse_duration(format_duration(seconds)) == seconds


@given(st.integers(min_value=0, max_value=10**10))
def test_whole_milliseconds_are_written_without_a_fraction(milliseconds: int) -> None:
    text = format_duration(milliseconds / 1000)
    assert "." not in text
    assert parse_duration(text) == milliseconds / 1000


@given(st.integers(min_value=0, max_value=MAX_SIZE))
def test_every_size_survives_a_round_trip(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("30s", 30.0),
        ("5m", 300.0),
        ("24h", 86400.0),
        ("1h30m", 5400.0),
        ("1.5s", 1.5),
        ("0.1s", 0.1),
        ("0", 0.0),
        ("0s", 0.0),
    ],
)
def test_durations_are_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "1", "1.s", ".5s", "1 s", "-1s", "+1s", "1d", "1S", "1e3s", "٣s", "1s\n"]
)
def test_what_is_not_a_duration_is_refused(text: str) -> None:
    with pytest.raises(BadText):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("512", 512), ("512B", 512), ("64KiB", 65536), ("10 MiB", 10485760), ("1GiB", 2**30)],
)
def test_sizes_are_bytes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "KiB", "-1", "1.5KiB", "010", "1kb", "1KIB", "٣", "1\n"])
def test_what_is_not_a_size_is_refused(text: str) -> None:
    with pytest.raises(BadText):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "share"), [("0%", 0.0), ("50%", 0.5), ("0.5%", 0.005), ("29%", 0.29), ("100%", 1.0)]
)
def test_percentages_are_shares_and_survive_a_round_trip(text: str, share: float) -> None:
    assert parse_percent(text) == share
    assert format_percent(share) == text


@given(st.integers(min_value=0, max_value=10_000))
def test_every_hundredth_of_a_percent_survives_a_round_trip(hundredths: int) -> None:
    assert parse_percent(format_percent(hundredths / 10_000)) == hundredths / 10_000


@pytest.mark.parametrize(
    "text", ["", "%", "50", "0.5", "-1%", "+1%", "50 %", "50%%", "101%", "1e1%", "٣%", "1%\n"]
)
def test_what_is_not_a_percentage_is_refused(text: str) -> None:
    with pytest.raises(BadText):
        parse_percent(text)


def loads_or_raises(text: str, environ: dict[str, str]) -> None:
    """Either outcome is fine; any other exception fails the test."""
    result: Loaded | ConfigError
    try:
        result = loads(text, "c.yaml", environ)
    except ConfigError as error:
        result = error
    if isinstance(result, Loaded):
        assert isinstance(result.config, Config)
        return
    assert result.problems
    for problem in result.problems:  # one line each, and printable anywhere
        assert len(str(problem).encode().splitlines()) == 1


@given(st.text())
def test_any_text_loads_or_raises_config_error(text: str) -> None:
    loads_or_raises(text, {})


@given(st.text(alphabet="abport: \n\t-[]{}&*<>!|'\"\\#?%@`,$~=.:0x1_eU"))
@settings(max_examples=500)
def test_any_text_of_yaml_characters_loads_or_raises_config_error(text: str) -> None:
    loads_or_raises(text, {})


WORDS = st.sampled_from(
    ["", "a", "/a", "/a/{b}", "none", "30s", "1KiB", "a:1", "*", "${V}", "${V:1}", "$", "GET", "::"]
)
SCALARS = WORDS | st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3)
)
MATCHES = st.fixed_dictionaries(
    {},
    optional={
        "path": WORDS,
        "path_prefix": WORDS,
        "methods": st.lists(WORDS, max_size=2) | SCALARS,
        "host": WORDS,
        "headers": st.dictionaries(WORDS, WORDS, max_size=2) | SCALARS,
    },
)
ROUTES = st.fixed_dictionaries(
    {"name": WORDS, "service": WORDS},
    optional={
        "match": MATCHES | VALUES,
        "strip_prefix": WORDS,
        "rewrite": WORDS,
        "split": st.lists(st.fixed_dictionaries({"service": WORDS}) | VALUES, max_size=2),
        "redirect": st.fixed_dictionaries({}, optional={"path": WORDS, "prefix": WORDS}) | VALUES,
        "direct_response": st.fixed_dictionaries({"body": st.text(max_size=5)}) | VALUES,
        "headers": st.fixed_dictionaries(
            {}, optional={"request": st.dictionaries(st.sampled_from(["set", "remove"]), VALUES)}
        ),
        "timeout": SCALARS,
        "retry": VALUES,
    },
)
SERVICES = st.fixed_dictionaries(
    {},
    optional={
        "consul": WORDS,
        "endpoints": st.lists(WORDS | VALUES, max_size=3),
        "protocol": WORDS,
        "pool": VALUES,
        "health_check": VALUES,
        "outlier": VALUES,
    },
)
FILES = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(["port", "consul_address", "nats_address", "log_level"], SCALARS),
        **dict.fromkeys(["drain_timeout", "consul_token", "data_dir"], SCALARS),
        **dict.fromkeys(["limits", "jobs", "auth", "register", "access_log"], VALUES),
        **dict.fromkeys(["consulAddress", "jwtSecret", "corsAllowed"], VALUES),
        "trusted_proxies": VALUES,
        "expose_services": st.lists(WORDS, max_size=3) | VALUES,
        "services": st.dictionaries(WORDS, SERVICES, max_size=3) | VALUES,
        "routes": st.lists(ROUTES | VALUES, max_size=3) | VALUES,
    },
)
ENVIRONMENTS = st.dictionaries(
    st.sampled_from(["V", "SIGER_PORT", "SIGER_LOG_LEVEL", "SIGER_CONSUL_TOKEN", "SIGER_X\n"]),
    WORDS | st.text(max_size=5),
)


@given(FILES, ENVIRONMENTS)
@settings(max_examples=300, deadline=None)
def test_any_file_with_the_keys_of_the_schema_loads_or_raises_config_error(
    content: object, environ: dict[str, str]
) -> None:
    loads_or_raises(yaml.safe_dump(content, allow_unicode=True), environ)
