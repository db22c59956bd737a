"""What a client may submit, and the ids that jobs get."""

from __future__ import annotations

import contextlib
import uuid
from typing import Any

import jsonschema
import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siger_gateway.errors import GatewayError
from siger_gateway.jobs.job import (
    MAX_BODY,
    MAX_DEPTH,
    JobRequest,
    derived_job_id,
    new_job_id,
    parse_body,
    parse_job_id,
)

MINIMAL = {"type": "train", "name": "a job"}


def refused(body: Any, types: tuple[str, ...] = ()) -> GatewayError:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    with pytest.raises(GatewayError) as caught:
        parse_body(raw, types)
    return caught.value


def bad_fields(body: Any, types: tuple[str, ...] = ()) -> list[str]:
    error = refused(body, types)
    assert error.reason == "invalid_fields"
    return [entry["field"] for entry in error.errors or []]


def nested(depth: int) -> dict[str, Any]:
    """An object with ``depth`` levels."""
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return dict(value)


def test_the_fields_of_a_job_are_kept_and_those_not_sent_are_not_made_up() -> None:
    full = {
        **MINIMAL,
        "description": "d",
        "gpu_type": "A100",
        "gpu_count": 4,
        "priority": 10,
        "params": {"epochs": 3},
        "tags": ["nlp"],
    }
    assert parse_body(orjson.dumps(full)).fields() == full
    assert parse_body(orjson.dumps(MINIMAL)).fields() == {**MINIMAL, "priority": 0}


@pytest.mark.parametrize(
    "job_type", ["", "a.b", "a b", "*", ">", "a\n", "ä", "a" * 65, "a/b", "$JS", "a\u0000", 1, None]
)
def test_a_type_that_is_not_a_token_is_refused(job_type: object) -> None:
    assert bad_fields({**MINIMAL, "type": job_type}) == ["type"]


def test_words_that_look_like_control_subjects_are_ordinary_types() -> None:
    for job_type in ("cancel", "status", "submit"):
        assert parse_body(orjson.dumps({**MINIMAL, "type": job_type})).type == job_type


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "a\nb"),
        ("name", "x" * 257),
        ("description", 1),
        ("gpu_type", ["A100"]),
        ("gpu_count", 0),
        ("gpu_count", True),
        ("gpu_count", 1.5),
        ("gpu_count", 1e300),
        ("gpu_count", "1"),
        ("gpu_count", None),
        ("priority", -1),
        ("priority", 101),
        ("priority", False),
        ("priority", None),
        ("params", []),
        ("params", None),
        ("params", nested(MAX_DEPTH + 1)),
        ("tags", "nlp"),
        ("tags", [1]),
        ("tags", [""]),
        ("tags", ["x"] * 33),
    ],
)
def test_a_bad_value_names_its_field(field: str, value: object) -> None:
    assert bad_fields({**MINIMAL, field: value}) == [field]


def test_every_bad_field_is_named_at_once() -> None:
    body = {"type": "a.b", "priority": 500, "gpu_count": True, "tags": {}, "shape": 1}
    assert sorted(bad_fields(body)) == ["gpu_count", "name", "priority", "shape", "tags", "type"]


def test_numbers_beyond_64_bits_are_no_integers() -> None:
    assert bad_fields(b'{"type":"t","name":"n","gpu_count":' + b"9" * 40 + b"}") == ["gpu_count"]


def test_params_may_nest_to_the_bound() -> None:
    assert parse_body(orjson.dumps({**MINIMAL, "params": nested(MAX_DEPTH)}))


def test_only_the_configured_types_are_accepted() -> None:
    assert bad_fields(MINIMAL, ("infer",)) == ["type"]
    assert parse_body(orjson.dumps(MINIMAL), ("infer", "train")).type == "train"


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"nul", b'{"a":NaN}', b"\xff", b"[" * 100_000, b'{"a":"\\ud800"}']
)
def test_what_is_not_json_is_malformed(raw: bytes) -> None:
    assert refused(raw).reason == "malformed_json"


@pytest.mark.parametrize("raw", [b"[]", b"1", b'"x"', b"null"])
def test_json_that_is_no_object_is_refused(raw: bytes) -> None:
    assert bad_fields(raw) == [""]


def test_a_body_that_cannot_fit_into_a_message_is_too_large() -> None:
    assert refused(b" " * (MAX_BODY + 1)).reason == "body_too_large"


def test_priorities_choose_the_lane_and_the_default_is_normal() -> None:
    lanes = {p: parse_body(orjson.dumps({**MINIMAL, "priority": p})).lane for p in (0, 49, 50, 100)}
    assert lanes == {0: "normal", 49: "normal", 50: "high", 100: "high"}


def test_the_digest_does_not_depend_on_the_order_of_fields_but_on_their_values() -> None:
    first = parse_body(b'{"type":"t","name":"n","params":{"a":1,"b":2}}')
    second = parse_body(b'{"params":{"b":2,"a":1},"name":"n","type":"t","priority":0}')
    third = parse_body(b'{"type":"t","name":"n","params":{"a":1,"b":3}}')
    assert first.digest() == second.digest() != third.digest()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)
fields = st.sampled_from([field.name for field in msgspec.structs.fields(JobRequest)])


@given(st.dictionaries(fields | st.text(max_size=6), json_values, max_size=9))
def test_the_published_schema_and_the_check_agree(body: dict[str, Any]) -> None:
    try:
        raw = msgspec.json.encode(body)
        decoded = orjson.loads(raw)  # what JSON makes of it: huge integers become floats
    except (orjson.JSONDecodeError, msgspec.MsgspecError, UnicodeEncodeError, OverflowError):
        return
    schema = msgspec.json.schema(JobRequest)
    try:
        jsonschema.validate(decoded, schema)
    except jsonschema.ValidationError:
        refused(raw)
    else:
        parse_body(raw)


def test_a_whole_number_may_be_written_with_a_point() -> None:
    plain, pointed = (
        parse_body(b'{"type":"t","name":"n","gpu_count":%b}' % n) for n in (b"4", b"4.0")
    )
    assert plain == pointed
    assert plain.digest() == pointed.digest()


@given(st.binary(max_size=200) | json_values.map(msgspec.json.encode))
def test_no_input_leads_to_anything_but_a_gateway_error(raw: bytes) -> None:
    with contextlib.suppress(GatewayError):
        parse_body(raw)


def test_new_ids_are_version_7_and_sort_by_time() -> None:
    ids = [new_job_id() for _ in range(10_000)]
    assert ids == sorted(set(ids))
    assert {uuid.UUID(job_id).version for job_id in ids} == {7}
    assert {uuid.UUID(job_id).variant for job_id in ids} == {uuid.RFC_4122}


def test_a_derived_id_is_the_same_for_the_same_user_and_key_only() -> None:
    first = derived_job_id("ann", "k")
    assert first == derived_job_id("ann", "k")
    assert len({first, derived_job_id("ann", "l"), derived_job_id("bob", "k")}) == 3
    assert uuid.UUID(first).version == 8
    assert uuid.UUID(first).variant == uuid.RFC_4122


@pytest.mark.parametrize("text", ["", "x", "*", ">", "a.b", "urn:uuid:" + "0" * 32, "0" * 32])
def test_what_is_no_uuid_is_no_job(text: str) -> None:
    with pytest.raises(GatewayError) as caught:
        parse_job_id(text)
    assert caught.value.status == 404


def test_ids_are_brought_to_their_canonical_form() -> None:
    job_id = new_job_id()
    assert parse_job_id(job_id.upper()) == job_id
