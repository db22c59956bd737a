"""What a service's description says about HTTP: its methods, and the ``google.api.http`` rules.

A ``FileDescriptorSet`` (``protoc --include_imports --descriptor_set_out``) is read into a pool of
its own, so that two services' descriptions never meet each other or ours. What is wrong in it is
found here, when the configuration is read, and not by a request.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from google.api import annotations_pb2, http_pb2, httpbody_pb2
from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from siger_gateway.grpc.json_fields import FieldPath, field_path, is_textual
from siger_gateway.grpc.path_template import BadRule, PathTemplate, Variable, parse_template

_GOOGLE: Final = {
    module.DESCRIPTOR.name: module.DESCRIPTOR
    for module in (
        *(annotations_pb2, http_pb2, httpbody_pb2),
        *(any_pb2, descriptor_pb2, duration_pb2, empty_pb2, field_mask_pb2),
        *(struct_pb2, timestamp_pb2, wrappers_pb2, error_details_pb2, status_pb2),
    )
}
_METHODS: Final = ("get", "put", "post", "delete", "patch")


@dataclass(frozen=True, slots=True)
class Rule:
    """One way to call a method over HTTP.

    :param body: "whole": the body is the message; "none": there is no body; otherwise the field
        that the body is.
    :param response: the field that the response's body is; None: it is the message.
    :param variables: those of the template, with the field that each sets.
    """

    rpc: MethodDescriptor
    method: str
    template: PathTemplate
    body: Literal["whole", "none"] | FieldDescriptor
    response: FieldDescriptor | None
    variables: tuple[tuple[Variable, FieldPath], ...]


@dataclass(frozen=True, slots=True)
class Described:
    """The services of a ``FileDescriptorSet``: the pool with their messages, and the rules."""

    pool: DescriptorPool
    rules: tuple[Rule, ...]


def read_descriptors(data: bytes) -> Described:
    """:param data: a serialized ``FileDescriptorSet``.
    :raises BadRule: it is none, it lacks an imported file, or a rule in it makes no sense.
    """
    try:
        files = descriptor_pb2.FileDescriptorSet.FromString(data)
    except DecodeError:
        raise BadRule(
            "this is no FileDescriptorSet, as protoc --descriptor_set_out makes"
        ) from None
    pool = _pool({file.name: file for file in files.file})
    rules: list[Rule] = []
    for file in files.file:
        for service in file.service:
            name = f"{file.package}.{service.name}" if file.package else service.name
            described = pool.FindServiceByName(name)
            for method in service.method:
                rules += _rules(described.methods_by_name[method.name], method)
    return Described(pool, tuple(rules))


def path_of(rpc: MethodDescriptor) -> str:
    """``:path`` of calls of a method."""
    return f"/{rpc.containing_service.full_name}/{rpc.name}"


def _pool(files: Mapping[str, descriptor_pb2.FileDescriptorProto]) -> DescriptorPool:
    pool = descriptor_pool.DescriptorPool()
    for file in _in_order(files):
        try:
            pool.Add(file)
        except TypeError as error:
            raise BadRule(f"{file.name} is not valid: {error}") from None
    return pool


def _in_order(
    files: Mapping[str, descriptor_pb2.FileDescriptorProto],
) -> list[descriptor_pb2.FileDescriptorProto]:
    """These files and Google's that they import, each after those that it imports.

    Without recursion, so that a long chain of imports is no deep stack.

    :raises BadRule: a file is missing, or imports itself in the end.
    """
    ordered: list[descriptor_pb2.FileDescriptorProto] = []
    done, open_ = set[str](), dict[str, Iterator[str]]()  # open: with what they still have to see
    found = dict(files)

    def begin(name: str, importer: str) -> None:
        file = found.get(name) or _google_file(name)
        if file is None:
            raise BadRule(f"{importer} imports {name}, which is missing: use --include_imports")
        found[name] = file
        open_[name] = iter(file.dependency)

    for root in files:
        if root not in done:
            begin(root, root)
        while open_:
            name = next(reversed(open_))
            imported = next(open_[name], None)
            if imported is None:
                del open_[name]
                done.add(name)
                ordered.append(found[name])
            elif imported in open_:
                raise BadRule(f"{name} imports {imported}, which imports it")
            elif imported not in done:
                begin(imported, name)
    return ordered


def is_known(name: str) -> bool:
    """Whether a file comes with protobuf or google.api, so that nobody else has to bring it."""
    return name in _GOOGLE


def _google_file(name: str) -> descriptor_pb2.FileDescriptorProto | None:
    """For sets without imports."""
    known = _GOOGLE.get(name)
    if known is None:
        return None
    file = descriptor_pb2.FileDescriptorProto()
    known.CopyToProto(file)
    return file


def _rules(
    rpc: MethodDescriptor, described: descriptor_pb2.MethodDescriptorProto
) -> Iterator[Rule]:
    """The rules of a method, and the one that all have: ``POST`` to the method's own path."""
    yield Rule(
        rpc, "POST", PathTemplate(tuple(path_of(rpc)[1:].split("/")), "", ()), "whole", None, ()
    )
    # Of the file as it was read: the pool's copy does not know the extension.
    if not described.options.HasExtension(annotations_pb2.http):
        return
    first = described.options.Extensions[annotations_pb2.http]
    for rule in (first, *first.additional_bindings):
        try:
            if rule is not first and rule.additional_bindings:
                raise BadRule("additional_bindings within additional_bindings")
            yield _rule(rpc, rule)
        except BadRule as error:
            raise BadRule(f"{rpc.full_name}: {error}") from None


def _rule(rpc: MethodDescriptor, rule: http_pb2.HttpRule) -> Rule:
    kind = rule.WhichOneof("pattern")
    if kind is None:
        raise BadRule("a rule without a method and a path")
    if kind == "custom":
        method, path = rule.custom.kind, rule.custom.path
        letters = method.replace("-", "")  # it stands in Allow: no line break, no comma
        if method != "*" and not (letters.isascii() and letters.isalpha()):
            raise BadRule(f"{method[:40]!r} is no method of HTTP")
    else:
        assert kind in _METHODS
        method, path = kind.upper(), getattr(rule, kind)
    template = parse_template(path)
    variables = []
    for variable in template.variables:
        fields = field_path(rpc.input_type, variable.path)
        if fields is None:
            raise BadRule(f"{path!r}: {rpc.input_type.full_name} has no field {variable.path!r}")
        if fields[-1].is_repeated or not is_textual(fields[-1]):
            raise BadRule(f"{path!r}: the field {variable.path!r} cannot be a part of a path")
        variables.append((variable, fields))
    return Rule(
        rpc, method, template, _body(rpc, method, rule), _response(rpc, rule), tuple(variables)
    )


def _body(
    rpc: MethodDescriptor, method: str, rule: http_pb2.HttpRule
) -> Literal["whole", "none"] | FieldDescriptor:
    if rule.body in ("", "*"):
        body: Literal["whole", "none"] | FieldDescriptor = "whole" if rule.body else "none"
    else:
        body = _field(rpc, "body", rule.body, rpc.input_type.fields_by_name.get(rule.body))
    if method == "GET" and body != "none":
        raise BadRule("a GET has no body (RFC 9110 section 9.3.1)")
    return body


def _response(rpc: MethodDescriptor, rule: http_pb2.HttpRule) -> FieldDescriptor | None:
    name = rule.response_body
    if not name:
        return None
    return _field(rpc, "response_body", name, rpc.output_type.fields_by_name.get(name))


def _field(
    rpc: MethodDescriptor, part: str, name: str, field: FieldDescriptor | None
) -> FieldDescriptor:
    if field is None:
        raise BadRule(f"{part}: there is no field {name!r}")
    return field
