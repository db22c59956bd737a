"""JSON clients of gRPC services: a request becomes messages, messages become a response.

    POST /v1/shelves/7/books:list?page_size=3  {"filter": "x"}
      -> match      which rule, the values of its variables
      -> request    one message of the method's input type, filled from path, query and body
      ...           the call itself is the proxy's: an ordinary gRPC exchange
      -> response   JSON; of a stream, a line or an event for each message

Which requests there are is what a service's description says (``http_rules``). Messages go through
protobuf's ``json_format``, so they look as the JSON mapping of proto3 has them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import parse_qsl

import orjson
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, EncodeError, Message

from siger_gateway.errors import GatewayError
from siger_gateway.grpc import http_body
from siger_gateway.grpc.framing import ENCODINGS
from siger_gateway.grpc.http_rules import Rule, path_of, read_descriptors
from siger_gateway.grpc.json_fields import (
    MAX_ERRORS,
    expectation,
    field_path,
    fill,
    is_textual,
    set_texts,
)
from siger_gateway.grpc.path_template import BadRule, PathTable
from siger_gateway.http.headers import Headers

JSON: Final = b"application/json"
"""What a response is that is no stream."""

MAX_PARAMETERS: Final = 1000
"""Parameters of a query, as Python's own limit for forms was chosen."""


_OF_REQUESTS: Final = frozenset(
    {b"content-type", b"content-length", b"content-encoding", b"accept", b"accept-encoding"}
    | {b"te", b"expect", b"grpc-encoding", b"grpc-accept-encoding"}
)
"""Fields that are about the JSON of a request, the client's connection, or messages that are the
gateway's."""
_OF_RESPONSES: Final = frozenset(
    {b"content-type", b"content-length", b"trailer", b"grpc-encoding", b"grpc-accept-encoding"}
    | {b"grpc-status", b"grpc-message", b"grpc-status-details-bin"}
)
"""Fields that are about the messages of a response, or say how the call went."""


def call_head(headers: Headers) -> Headers:
    """The fields of the call that a JSON request becomes; all others are its metadata."""
    return [
        *(field for field in headers if field[0] not in _OF_REQUESTS),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        (b"grpc-accept-encoding", b",".join(ENCODINGS)),
    ]


def reply_head(headers: Headers, content: Headers) -> Headers:
    """The fields of the response that a call's response becomes.

    :param content: fields that describe its body.
    """
    return [*(field for field in headers if field[0] not in _OF_RESPONSES), *content]


class UnknownService(BadRule):
    """What is to be served is not described."""


@dataclass(frozen=True, slots=True)
class JsonStyle:
    """How responses are written; requests may use any of it.

    :param names: "json": ``pageSize``, as proto3's JSON mapping has it; "proto": ``page_size``.
    :param unset: whether fields without presence that hold their default are written.
    :param enums: values by name or by number.
    """

    names: Literal["json", "proto"] = "json"
    unset: Literal["left_out", "written"] = "left_out"
    enums: Literal["names", "numbers"] = "names"


class Transcoder:
    """The HTTP side of the services that a ``FileDescriptorSet`` describes.

    :param descriptors: the set, serialized.
    :param services: full names of those to be served; empty: all.
    :param ignored: parameters of a query that are nobody's fields, such as ``access_token``.
    :raises BadRule: see ``read_descriptors``; two methods want the same requests; no service is
        described, or not one of those to be served (``UnknownService``).
    """

    def __init__(
        self,
        descriptors: bytes,
        services: Collection[str] = (),
        style: JsonStyle = JsonStyle(),
        ignored: Collection[str] = (),
    ) -> None:
        described = read_descriptors(descriptors)
        self.pool: DescriptorPool = described.pool
        """The descriptions of the services' messages."""
        self._table: PathTable[Binding] = PathTable()
        known = {rule.rpc.containing_service.full_name for rule in described.rules}
        if not known:
            raise BadRule("no service with a method is described in it")
        for name in services:
            if name not in known:
                raise UnknownService(
                    f"there is no service {name!r}; there are: {', '.join(sorted(known))}"
                )
        self.rules = 0
        """How many it serves."""
        for rule in described.rules:
            if services and rule.rpc.containing_service.full_name not in services:
                continue
            binding = Binding(rule, self.pool, style, frozenset(ignored))
            self.rules += 1
            first = self._table.add(rule.method, rule.template, binding)
            if first is not binding:
                raise BadRule(
                    f"{rule.rpc.full_name} and {first.rule.rpc.full_name} want the same "
                    f"{rule.method} requests"
                )

    def match(self, method: bytes, path: bytes, query: bytes) -> Match | None:
        """Which method a request calls; None: none.

        :param path: without the query, still percent-encoded.
        :raises GatewayError: ``bad_path``.
        """
        found = self._table.find(method.decode("latin-1"), path)
        if found is None:
            return None
        binding, segments = found
        values = [variable.value(segments) for variable, _ in binding.rule.variables]
        return Match(binding, values, query)

    def methods(self, path: bytes) -> list[str]:
        """What ``Allow`` has to say of a path; empty: nothing is there.

        :raises GatewayError: ``bad_path``.
        """
        return self._table.methods(path)


class Binding:
    """One rule, ready to be used by requests."""

    def __init__(
        self, rule: Rule, pool: DescriptorPool, style: JsonStyle, ignored: frozenset[str]
    ) -> None:
        self.rule = rule
        self.path = path_of(rule.rpc).encode()
        """``:path`` of the call."""
        self.client_streaming: bool = rule.rpc.client_streaming
        self.server_streaming: bool = rule.rpc.server_streaming
        field = rule.response
        self.raw_response: bool = http_body.is_http_body(
            rule.rpc.output_type
            if field is None
            else None
            if field.is_repeated
            else field.message_type
        )
        """Whether responses are a ``google.api.HttpBody``, and no JSON."""
        self.raw_request: bool = _takes_http_body(rule)
        """The same for requests."""
        self.pool = pool
        """The descriptions of its messages, and of what an ``Any`` may hold."""
        self._ignored = ignored
        self._request: type[Message] = message_factory.GetMessageClass(rule.rpc.input_type)
        self._response: type[Message] = message_factory.GetMessageClass(rule.rpc.output_type)
        self._writing: dict[str, Any] = {
            "preserving_proto_field_name": style.names == "proto",
            "use_integers_for_enums": style.enums == "numbers",
            "always_print_fields_with_no_presence": style.unset == "written",
            "descriptor_pool": pool,
        }

    def __repr__(self) -> str:
        return f"<Binding {self.rule.method} -> {self.path.decode()}>"

    def request_message(
        self, variables: list[str], query: bytes, body: bytes, media_type: bytes = b""
    ) -> bytes:
        """The serialized message of a request.

        :param variables: the values of ``rule.variables``, in their order.
        :param body: JSON; empty, as well as of a rule without one, is no fields. Of a
            ``raw_request``, whatever it is.
        :param media_type: its Content-Type, for a ``raw_request``.
        :raises GatewayError: ``invalid_fields``, ``malformed_json``, ``bad_request``.
        """
        message = self._request()
        if self.raw_request:
            field = self.rule.body
            target = getattr(message, field.name) if isinstance(field, FieldDescriptor) else message
            http_body.fill(target, media_type, body)
        else:
            self._add_body(message, body)
        bad = self._add_query(message, query) + self._add_variables(message, variables)
        if bad:
            raise GatewayError("invalid_fields", errors=bad[:MAX_ERRORS])
        try:
            return bytes(message.SerializeToString())
        except EncodeError:  # required fields of proto2
            missing = message.FindInitializationErrors()
            raise GatewayError(
                "invalid_fields",
                errors=[{"field": name, "detail": "is required"} for name in missing],
            ) from None

    def response_json(self, message: bytes) -> bytes:
        """The JSON of a serialized response message, or of the field that is the response.

        :raises GatewayError: ``upstream_message``.
        """
        try:
            parsed = self._response.FromString(message)
            return orjson.dumps(self._document(parsed))
        # TypeError: an Any of unknown type, or nested deeper than orjson writes.
        except (DecodeError, json_format.SerializeToJsonError, ValueError, TypeError):
            raise GatewayError("upstream_message") from None

    def response_content(self, message: bytes) -> tuple[bytes, bytes]:
        """Content-Type and body of a response.

        :param message: serialized.
        :raises GatewayError: ``upstream_message``.
        """
        if not self.raw_response:
            return JSON, self.response_json(message)
        try:
            parsed = self._response.FromString(message)
        except DecodeError:
            raise GatewayError("upstream_message") from None
        field = self.rule.response
        return http_body.content_of(parsed if field is None else getattr(parsed, field.name))

    def _document(self, message: Message) -> Any:
        field = self.rule.response
        if field is None:
            return json_format.MessageToDict(message, **self._writing)
        if field.message_type is not None and not field.is_repeated:
            return json_format.MessageToDict(getattr(message, field.name), **self._writing)
        is_proto = self._writing["preserving_proto_field_name"]
        name = field.name if is_proto else field.json_name
        document = json_format.MessageToDict(message, **self._writing)
        if name not in document:  # it holds its default, which has to be written all the same
            writing = {**self._writing, "always_print_fields_with_no_presence": True}
            document = json_format.MessageToDict(message, **writing)
        return document.get(name)

    def _add_body(self, message: Message, body: bytes) -> None:
        if not body:
            return
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise GatewayError("malformed_json") from None
        field = self.rule.body
        if field == "whole":
            fill(message, document, self.pool)
        elif isinstance(field, FieldDescriptor):
            fill(message, {field.name: document}, self.pool)
        elif document != {}:  # which some clients always send
            raise GatewayError("bad_request", "This request takes no body.")

    def _add_query(self, message: Message, query: bytes) -> list[dict[str, str]]:
        """Sets the fields that a query names; those that are not right."""
        if not query:
            return []
        texts: dict[str, list[str]] = {}
        try:
            for name, text in parse_qsl(
                query.decode("latin-1"),
                keep_blank_values=True,
                errors="strict",
                max_num_fields=MAX_PARAMETERS,
            ):
                texts.setdefault(name, []).append(text)
        except ValueError:  # UnicodeDecodeError is one
            raise GatewayError("bad_request", "The query is too long, or not UTF-8.") from None
        bad = []
        for name, values in texts.items():
            detail = "" if name in self._ignored else self._add_parameter(message, name, values)
            if detail:
                bad.append({"field": name[:200], "detail": detail})
        return bad

    def _add_parameter(self, message: Message, name: str, texts: list[str]) -> str:
        """What is wrong with a parameter; empty: nothing."""
        path = field_path(self.rule.rpc.input_type, name)
        if path is None:
            return "is not a known parameter"
        if self.rule.body == "whole" or path[0] == self.rule.body:
            return "belongs into the body"
        if any(path == of_path for _, of_path in self.rule.variables):
            return "stands in the path"
        if not is_textual(path[-1]):
            return "cannot be given as a parameter"
        if len(texts) > 1 and not path[-1].is_repeated:
            return "may stand only once"
        return "" if set_texts(message, path, texts) else f"must be {expectation(path[-1])}"

    def _add_variables(self, message: Message, values: list[str]) -> list[dict[str, str]]:
        """Sets the fields that the path names, whatever the body says of them."""
        return [
            {"field": variable.path, "detail": f"must be {expectation(path[-1])}"}
            for (variable, path), value in zip(self.rule.variables, values, strict=True)
            if not set_texts(message, path, [value])
        ]


def _takes_http_body(rule: Rule) -> bool:
    if isinstance(rule.body, FieldDescriptor):
        return not rule.body.is_repeated and http_body.is_http_body(rule.body.message_type)
    return rule.body == "whole" and http_body.is_http_body(rule.rpc.input_type)


@dataclass(frozen=True, slots=True)
class Match:
    """A request that calls ``binding``.

    :param variables: the values that its path has for ``binding.rule.variables``.
    """

    binding: Binding
    variables: list[str]
    query: bytes

    def request_message(self, body: bytes, media_type: bytes = b"") -> bytes:
        """See ``Binding.request_message``."""
        return self.binding.request_message(self.variables, self.query, body, media_type)
