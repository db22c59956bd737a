"""The path templates of ``google.api.http``: parsed once, then found by a walk over segments.

    Template = "/" Segments [ ":" LITERAL ]        /v1/{name=projects/*/jobs/*}:cancel
    Segments = Segment { "/" Segment }
    Segment  = "*" | "**" | LITERAL | "{" FieldPath [ "=" Segments ] "}"

``*`` is one segment, ``**`` the rest of the path, which may be nothing. Where several templates fit
a path, a literal goes before ``*`` and ``*`` before ``**``, segment by segment from the left.
(google/api/http.proto, "Path template syntax".)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar
from urllib.parse import unquote_to_bytes

from siger_gateway.errors import GatewayError

ONE: Final = "*"
REST: Final = "**"
ANY_METHOD: Final = "*"
"""The method of a rule for every method (``custom: {kind: "*"}``)."""

MAX_TEMPLATE: Final = 1024
"""Characters. The longest of Google's own have 200."""
MAX_SEGMENTS: Final = 32
"""Of a template: requests are matched by a walk that is as deep. Google's own have 14."""
MAX_METHODS: Final = 16
"""Methods of HTTP in one table: ``Allow`` may have to name them all."""

_SPECIAL: Final = frozenset("{}*=:")

Target = TypeVar("Target")


class BadRule(Exception):
    """A service's description says something that cannot be served; the text says what."""


@dataclass(frozen=True, slots=True)
class Variable:
    """The segments ``start`` to ``stop`` (None: all that are left) are the value of a field.

    :param path: the field's dotted name.
    """

    path: str
    start: int
    stop: int | None

    def value(self, segments: list[bytes]) -> str:
        """The text of the field.

        Of several segments ``%2F`` stays as it is: it is no separator, but would look like one.

        :raises GatewayError: ``bad_path``.
        """
        taken = segments[self.start : self.stop]
        if self.stop == self.start + 1:
            return _decoded(taken[0])
        kept = [part.replace(b"%2F", b"%252F").replace(b"%2f", b"%252f") for part in taken]
        return "/".join(map(_decoded, kept))


@dataclass(frozen=True, slots=True)
class PathTemplate:
    """One template: its segments (literals, ``ONE``, ``REST`` at the end), its verb or ""."""

    segments: tuple[str, ...]
    verb: str
    variables: tuple[Variable, ...]


def parse_template(text: str) -> PathTemplate:
    """:raises BadRule: ``text`` is no template, or longer than any should be."""
    if len(text) > MAX_TEMPLATE or text.count("/") > MAX_SEGMENTS:
        raise BadRule(
            f"{text[:40]!r}... has more than {MAX_TEMPLATE} characters or {MAX_SEGMENTS} segments"
        )
    if not text.startswith("/"):
        raise BadRule(f"{text!r} does not begin with a slash")
    colon = text.rfind(":")
    has_verb = colon > max(text.rfind("/"), text.rfind("}"))
    body, verb = (text[1:colon], text[colon + 1 :]) if has_verb else (text[1:], "")
    if has_verb and (not verb or _SPECIAL & set(verb)):
        raise BadRule(f"{text!r} has no verb after its last colon")
    segments: list[str] = []
    variables: list[Variable] = []
    for part in _outside_braces(body):
        if part.startswith("{") and part.endswith("}"):
            path, equals, pattern = part[1:-1].partition("=")
            inner = pattern.split("/") if equals else [ONE]
            if not all(name.isidentifier() for name in path.split(".")):
                raise BadRule(f"{text!r}: {path!r} does not name a field")
            if path in [variable.path for variable in variables]:
                raise BadRule(f"{text!r} has {path!r} twice")
            start = len(segments)
            stop = None if REST in inner else start + len(inner)
            variables.append(Variable(path, start, stop))
            segments += inner
        else:
            segments.append(part)
    for index, segment in enumerate(segments):
        if segment == REST and index < len(segments) - 1:
            raise BadRule(f"{text!r} goes on after '**'")
        if segment not in (ONE, REST) and (not segment or _SPECIAL & set(segment)):
            raise BadRule(f"{text!r}: {segment!r} is no segment")
    return PathTemplate(tuple(segments), verb, tuple(variables))


@dataclass(slots=True)
class _Node(Generic[Target]):
    """What may follow one beginning of a path. ``ends`` and ``rests``: by method and verb."""

    literals: dict[str, _Node[Target]] = field(default_factory=dict)
    one: _Node[Target] | None = None
    ends: dict[tuple[str, str], Target] = field(default_factory=dict)
    rests: dict[tuple[str, str], Target] = field(default_factory=dict)


class PathTable(Generic[Target]):
    """All templates of a service, and what each leads to."""

    def __init__(self) -> None:
        self._root: _Node[Target] = _Node()
        self._methods: set[str] = set()
        self._verbs: set[str] = set()

    def add(self, method: str, template: PathTemplate, target: Target) -> Target:
        """What ``method`` and ``template`` lead to: ``target``, unless it is something already.

        :raises BadRule: there are too many methods.
        """
        node, segments = self._root, template.segments
        is_open = segments[-1] == REST
        for segment in segments[:-1] if is_open else segments:
            if segment == ONE:
                node.one = node.one or _Node()
                node = node.one
            else:
                node = node.literals.setdefault(segment, _Node())
        self._methods.add(method)
        if len(self._methods) > MAX_METHODS:
            raise BadRule(f"there are rules for more than {MAX_METHODS} methods of HTTP")
        self._verbs.add(template.verb)
        return (node.rests if is_open else node.ends).setdefault((method, template.verb), target)

    def find(self, method: str, path: bytes) -> tuple[Target, list[bytes]] | None:
        """What a request leads to, and the segments for its variables, still percent-encoded.

        :raises GatewayError: ``bad_path``.
        """
        for segments, verb in self._readings(path):
            found = _find(self._root, [_decoded(part) for part in segments], 0, method, verb)
            if found is not None:
                return found, segments
        return None

    def methods(self, path: bytes) -> list[str]:
        """The methods that this path takes, for ``Allow``.

        :raises GatewayError: ``bad_path``.
        """
        found: set[str] = set()
        for segments, verb in self._readings(path):
            _collect(self._root, [_decoded(part) for part in segments], 0, verb, found)
        return sorted(found)

    def _readings(self, path: bytes) -> Iterator[tuple[list[bytes], str]]:
        """The segments of a path and its verb, once with the verb that it may have, if any template
        has it, and once without."""
        if not path.startswith(b"/"):
            return
        raw = path[1:].split(b"/")
        last, colon, tail = raw[-1].rpartition(b":")
        if colon and (verb := _decoded(tail)) in self._verbs:
            yield [*raw[:-1], last], verb
        yield raw, ""


def _find(
    node: _Node[Target], segments: list[str], index: int, method: str, verb: str
) -> Target | None:
    """Depth first, the most exact first. As deep as the templates are, however long the path."""
    if index == len(segments):
        found = _of_method(node.ends, method, verb)
        return found if found is not None else _of_method(node.rests, method, verb)
    segment = segments[index]
    below = node.literals.get(segment)
    if below is not None:
        found = _find(below, segments, index + 1, method, verb)
        if found is not None:
            return found
    if node.one is not None and segment:
        found = _find(node.one, segments, index + 1, method, verb)
        if found is not None:
            return found
    return _of_method(node.rests, method, verb)


def _collect(
    node: _Node[Target], segments: list[str], index: int, verb: str, found: set[str]
) -> None:
    """Adds the methods of all templates that fit."""
    found.update(method for method, of_verb in node.rests if of_verb == verb)
    if index == len(segments):
        found.update(method for method, of_verb in node.ends if of_verb == verb)
        return
    below = node.literals.get(segments[index])
    if below is not None:
        _collect(below, segments, index + 1, verb, found)
    if node.one is not None and segments[index]:
        _collect(node.one, segments, index + 1, verb, found)


def _of_method(ends: dict[tuple[str, str], Target], method: str, verb: str) -> Target | None:
    found = ends.get((method, verb))
    return found if found is not None else ends.get((ANY_METHOD, verb))


def _decoded(segment: bytes) -> str:
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        raise GatewayError("bad_path", "The path is not UTF-8.") from None


def _outside_braces(text: str) -> list[str]:
    """``text`` cut at those slashes that are not within ``{}``."""
    parts, depth = [""], 0
    for character in text:
        depth += (character == "{") - (character == "}")
        if character == "/" and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts
