"""Parameters of the jobs endpoints."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from siger_gateway.errors import GatewayError
from siger_gateway.jobs import query


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("30", 30), ("250ms", 0.25), ("1m", 60), ("0", 0), ("1.5s", 1.5)],
)
def test_durations_to_wait(text: str, seconds: float) -> None:
    assert query.wait([text]) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "61s", "2m", "1h", "1e3", "٣s", "nan"])
def test_a_bad_duration_names_its_parameter(text: str) -> None:
    assert refused(lambda: query.wait([text])) == "wait"


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("wait=30", 30),
        ("respond-async, wait=5", 5),
        ('wait="5"', 5),
        ("wait=5; x=y", 5),
        ("WAIT=5", 5),
        ("wait=500", query.MAX_WAIT),
        ("wait=x", None),
        ("await=5", None),
        ("", None),
    ],
)
def test_the_wait_that_is_preferred(prefer: str, seconds: float | None) -> None:
    assert query.preferred_wait(prefer) == seconds


@pytest.mark.parametrize("text", ["", "0", "1001", "-1", "1.0", "+5", "1_0", "٣", "9" * 30])
def test_a_bad_number_names_its_parameter(text: str) -> None:
    assert refused(lambda: query.whole("limit", [text], 1, 1000)) == "limit"


def test_a_parameter_that_stands_twice_is_refused() -> None:
    assert refused(lambda: query.whole("limit", ["1", "2"], 1, 9)) == "limit"


def test_states_types_and_tags_are_checked() -> None:
    assert refused(lambda: query.one_of("status", ["done"], ["queued"])) == "status"
    assert refused(lambda: query.tokens("type", ["a.b"])) == "type"
    assert refused(lambda: query.texts("tag", [""])) == "tag"
    assert query.one_of("status", ["queued", "queued"], ["queued"]) == {"queued"}


@pytest.mark.parametrize("key", ["", "x" * 256, "a\nb"])
def test_a_bad_idempotency_key_is_refused(key: str) -> None:
    assert refused(lambda: query.idempotency_key([key])) == "Idempotency-Key"


@pytest.mark.parametrize(
    ("header", "seq"),
    [('"12"', 12), ('W/"12"', 12), ("*", None), ('"a"', None), ('"1", "2"', None), ('"', None)],
)
def test_the_sequence_of_an_entity_tag(header: str, seq: int | None) -> None:
    assert query.entity_tag(header) == seq


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(GatewayError) as caught:
        call()
    assert caught.value.reason == "invalid_fields"
    assert caught.value.errors
    return caught.value.errors[0]["field"]
