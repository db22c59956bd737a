"""From JSON and from texts into the fields of a message, with errors that say what and where.

protobuf's ``json_format`` does the converting. Its errors are texts for programmers, about the
first thing that is wrong; so when it fails the document is walked here along the message's
description, and the client learns of every bad field, by its path, and of what it should be.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message

from siger_gateway.errors import GatewayError

MAX_DEPTH: Final = 100
"""Nesting of messages in JSON: ``json_format``'s own limit."""
MAX_ERRORS: Final = 100
"""Bad fields that are named."""

_UNFIT: Final = (
    *(json_format.ParseError, ValueError, TypeError, KeyError, AttributeError),
    *(OverflowError, RecursionError),
)
"""What ``json_format`` raises, in fact, for documents that do not fit."""

_WELL_KNOWN: Final = {
    "google.protobuf.Any": "an object with an @type that is known",
    "google.protobuf.Duration": "a duration such as 1.5s",
    "google.protobuf.FieldMask": "names of fields, separated by commas",
    "google.protobuf.ListValue": "an array",
    "google.protobuf.Struct": "an object",
    "google.protobuf.Timestamp": "a time such as 2026-01-31T12:00:00Z",
    "google.protobuf.Value": "any JSON value",
}
"""Messages that JSON writes in a form of their own."""

_WRAPPERS: Final = {
    f"google.protobuf.{name}Value"
    for name in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
}
"""Messages that JSON writes as their only field, ``value``."""

_TEXTUAL: Final = _WRAPPERS | {
    f"google.protobuf.{name}" for name in ("Duration", "FieldMask", "Timestamp")
}
"""Messages that a single text can stand for, in a query or a path."""

_SCALARS: Final = {
    FieldDescriptor.CPPTYPE_INT32: "an integer of 32 bits",
    FieldDescriptor.CPPTYPE_UINT32: "an integer of 32 bits, 0 or more",
    FieldDescriptor.CPPTYPE_INT64: "an integer of 64 bits",
    FieldDescriptor.CPPTYPE_UINT64: "an integer of 64 bits, 0 or more",
    FieldDescriptor.CPPTYPE_DOUBLE: "a number",
    FieldDescriptor.CPPTYPE_FLOAT: "a number",
    FieldDescriptor.CPPTYPE_BOOL: "true or false",
    FieldDescriptor.CPPTYPE_STRING: "a string",
}

FieldPath = tuple[FieldDescriptor, ...]
"""From a message to a field within it."""


def field_named(descriptor: Descriptor, name: str) -> FieldDescriptor | None:
    """A field by its name in the description or in JSON; None: there is none."""
    for field in descriptor.fields:
        if name in (field.json_name, field.name):
            return field
    return None


def field_path(descriptor: Descriptor, path: str) -> FieldPath | None:
    """The fields of ``"a.b.c"``, all but the last of them single messages; None: there is none."""
    fields: list[FieldDescriptor] = []
    inside: Descriptor | None = descriptor
    for name in path.split("."):
        found = None if inside is None else field_named(inside, name)
        if found is None:
            return None
        fields.append(found)
        kind = found.message_type
        is_open = kind is not None and not found.is_repeated and not _is_special(kind)
        inside = kind if is_open else None
    return tuple(fields)


def is_textual(field: FieldDescriptor) -> bool:
    """Whether a text can stand for a value of this field."""
    return field.message_type is None or field.message_type.full_name in _TEXTUAL


def set_texts(message: Message, path: FieldPath, texts: list[str]) -> bool:
    """Sets the field at ``path``, which ``is_textual``; whether the texts could be read so.

    :param texts: the values of a field that is repeated, otherwise one.
    """
    for field in path[:-1]:
        message = getattr(message, field.name)
        message.SetInParent()
    field = path[-1]
    values = [_boolean(text) if _is_boolean(field) else text for text in texts]
    try:
        json_format.ParseDict({field.name: values if field.is_repeated else values[0]}, message)
    except _UNFIT:
        return False
    return True


def fill(message: Message, document: Any, pool: DescriptorPool) -> None:
    """Sets the fields of a message from a JSON value.

    :param pool: the descriptions of what an ``Any`` may hold.
    :raises GatewayError: ``invalid_fields``, which names every bad one.
    """
    try:
        if not isinstance(document, dict) and not _is_special(message.DESCRIPTOR):
            raise TypeError  # json_format takes an empty array for an object
        json_format.ParseDict(document, message, descriptor_pool=pool)
    except _UNFIT:
        raise GatewayError("invalid_fields", errors=_errors(message, document)) from None


def expectation(field: FieldDescriptor) -> str:
    """What one value of a field has to be, for people."""
    if field.message_type is not None:
        name = field.message_type.full_name
        if name in _WRAPPERS:
            return expectation(field.message_type.fields_by_name["value"])
        return _WELL_KNOWN.get(name, "an object")
    if field.enum_type is not None:
        return "one of: " + ", ".join(value.name for value in field.enum_type.values[:50])
    if field.type == FieldDescriptor.TYPE_BYTES:
        return "base64"
    return _SCALARS[field.cpp_type]


def _errors(message: Message, document: Any) -> list[dict[str, str]]:
    errors: list[dict[str, str]] = []
    for path, detail in _problems(message.DESCRIPTOR, document, "", 0):
        errors.append({"field": path[:200], "detail": detail})
        if len(errors) == MAX_ERRORS:
            break
    # Nothing found: what is wrong is between the fields, and then the whole is.
    return errors or [{"field": "", "detail": "does not fit the message's description"}]


def _problems(
    descriptor: Descriptor, document: Any, within: str, depth: int
) -> Iterator[tuple[str, str]]:
    """What is wrong in one message, as paths and sentences."""
    if _is_special(descriptor):
        known = _WELL_KNOWN.get(descriptor.full_name)
        yield within, f"must be {known or expectation(descriptor.fields_by_name['value'])}"
        return
    if not isinstance(document, dict):
        yield within, "must be an object"
        return
    if depth == MAX_DEPTH:
        yield within, f"is nested more than {MAX_DEPTH} deep"
        return
    seen: dict[str, str] = {}
    for name, value in document.items():
        where = f"{within}.{name}" if within else name
        field = field_named(descriptor, name)
        if field is None:
            yield where, "is not a known field"
        elif value is not None:
            group = field.name if field.containing_oneof is None else field.containing_oneof.name
            if seen.setdefault(group, name) != name:
                yield where, f"cannot be given together with {seen[group]}"
            yield from _field_problems(field, value, where, depth)


def _field_problems(
    field: FieldDescriptor, value: Any, where: str, depth: int
) -> Iterator[tuple[str, str]]:
    if _is_map(field):
        if not isinstance(value, dict):
            yield where, "must be an object"
            return
        key, inner = field.message_type.fields
        for name, item in value.items():
            if not _fits(field, {name: item}):
                found = list(_value_problems(inner, item, f"{where}[{name}]", depth))
                yield from found or [
                    (f"{where}[{name}]", f"must have {expectation(key)} as its key")
                ]
    elif field.is_repeated:
        if not isinstance(value, list):
            yield where, f"must be an array; of each item: {expectation(field)}"
            return
        for index, item in enumerate(value):
            yield from _value_problems(field, item, f"{where}[{index}]", depth)
    else:
        yield from _value_problems(field, value, where, depth)


def _value_problems(
    field: FieldDescriptor, value: Any, where: str, depth: int
) -> Iterator[tuple[str, str]]:
    """What is wrong with one value, which is none of a map and none of an array."""
    if field.message_type is not None and not _is_special(field.message_type):
        yield from _problems(field.message_type, value, where, depth + 1)
    elif not _fits(field, [value] if field.is_repeated else value):
        yield where, f"must be {expectation(field)}"


def _fits(field: FieldDescriptor, value: Any) -> bool:
    message = message_factory.GetMessageClass(field.containing_type)()
    pool = field.file.pool
    try:
        json_format.ParseDict({field.name: value}, message, descriptor_pool=pool)
    except _UNFIT:
        return False
    return True


def _is_map(field: FieldDescriptor) -> bool:
    kind = field.message_type
    return kind is not None and bool(kind.GetOptions().map_entry)


def _is_special(descriptor: Descriptor) -> bool:
    """Whether JSON writes such a message in a form of its own."""
    return descriptor.full_name in _WELL_KNOWN or descriptor.full_name in _WRAPPERS


def _is_boolean(field: FieldDescriptor) -> bool:
    kind = field.message_type
    if kind is not None and kind.full_name == "google.protobuf.BoolValue":
        return True
    return bool(field.cpp_type == FieldDescriptor.CPPTYPE_BOOL)


def _boolean(text: str) -> bool | str:
    """Only the two words of JSON; anything else stays a text, and does not fit."""
    return {"true": True, "false": False}.get(text, text)
