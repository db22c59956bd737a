"""YAML text -> a small tree in which every value knows its line.

PyYAML composes the text into nodes (``SafeLoader``: no Python objects are ever constructed), and
this module turns them into three frozen classes: ``Scalar`` (still text: the schema says later what
it means), ``Sequence`` and ``Mapping`` (keys are text, merge keys already applied).

What comes out is safe to walk without further care. Aliases share their nodes, so a short text can
stand for a huge tree ("billion laughs") or an endless one; both are refused here: an alias inside
of its own anchor is a problem, and so is a tree whose size or depth, aliases expanded, passes a
limit.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal

import yaml
from yaml.composer import Composer
from yaml.resolver import Resolver

from siger_gateway.config.problem import Mark, Report, join, shown

MAX_VALUES: Final = 200_000
"""Values in a file, aliases expanded: some 20 000 routes, and a second or two of checking."""

MAX_DEPTH: Final = 64
"""Levels of nesting. The schema has 5; PyYAML composes recursively and Python allows 1000 calls."""

Kind = Literal["string", "integer", "number", "boolean", "nothing", "date", "tagged"]
"""``tagged``: with a tag that means nothing here; already reported."""

_KINDS: Final[dict[str, Kind]] = {
    "tag:yaml.org,2002:str": "string",
    "tag:yaml.org,2002:int": "integer",
    "tag:yaml.org,2002:float": "number",
    "tag:yaml.org,2002:bool": "boolean",
    "tag:yaml.org,2002:null": "nothing",
    "tag:yaml.org,2002:timestamp": "date",
    "tag:yaml.org,2002:value": "string",  # a bare "="
    "tag:yaml.org,2002:merge": "string",  # a bare "<<" that is not a key
}
_MERGE: Final = "tag:yaml.org,2002:merge"
_SEQUENCE: Final = "tag:yaml.org,2002:seq"
_MAPPING: Final = "tag:yaml.org,2002:map"


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value. ``kind`` is what YAML takes the text for; ``plain``: written bare."""

    at: Mark
    text: str
    kind: Kind
    plain: bool


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list."""

    at: Mark
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One ``key: value`` of a mapping; ``at`` is the place of the key."""

    at: Mark
    value: Node


@dataclass(frozen=True, slots=True)
class Mapping:
    """Keys in file order. A key that YAML would take for a number or a boolean is text too."""

    at: Mark
    entries: dict[str, Entry]


Node = Scalar | Sequence | Mapping


def parse(text: str, report: Report) -> Node | None:
    """The tree of ``text``, or None for an empty document and after an unusable one.

    Duplicate keys, unknown tags and keys that are not text are added to ``report`` and left out;
    malformed YAML and trees past the limits are added, and nothing of them is returned.
    """
    try:
        root = _compose(text)
        return None if root is None else _Converter(report).convert(root, "")
    except yaml.MarkedYAMLError as error:
        found = error.problem_mark or error.context_mark
        context = f"{error.context}: " if error.context else ""
        at = _mark(found) if found else Mark(1, 1)
        hint = ""
        if found and text[max(found.index - 1, 0) : found.index + 1] == "${":
            hint = "; inside of { } and [ ], a ${NAME} has to be in quotes"
        report.add(at, "", _one_line(f"not valid YAML: {context}{error.problem}{hint}"))
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        at = Mark(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)
        report.add(at, "", f"not valid YAML: the character U+{_ordinal(error):04X} is not allowed")
    except (ValueError, OverflowError) as error:
        # PyYAML does not check the range of "\UFFFFFFFF" and the length of numbers in directives.
        report.add(Mark(1, 1), "", _one_line(f"not valid YAML: {error}"))
    except _TooMuch as error:
        report.add(error.at, "", error.reason)
    return None


def _one_line(text: str) -> str:
    """A reason that came from PyYAML, on one line."""
    return "".join(one if one.isprintable() else " " for one in text)


def _ordinal(error: yaml.reader.ReaderError) -> int:
    return error.character if isinstance(error.character, int) else ord(error.character[0])


def _mark(mark: yaml.Mark) -> Mark:
    return Mark(mark.line + 1, mark.column + 1)


class _TooMuch(Exception):
    """The tree passes a limit; there is no point in reading on."""

    def __init__(self, at: Mark, reason: str) -> None:
        super().__init__(reason)
        self.at = at
        self.reason = reason


class _Bounded(Composer):
    """A composer that gives up at ``MAX_DEPTH`` instead of running into Python's limit."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            event = self.peek_event()  # type: ignore[attr-defined]  # of the parser beside it
            raise _TooMuch(_mark(event.start_mark), f"nested deeper than {MAX_DEPTH} levels")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Loader(_Bounded, yaml.SafeLoader):
    """PyYAML's own parser. It says best what is wrong with a text."""


def _compose(text: str) -> yaml.Node | None:
    if yaml.__with_libyaml__:
        # Five times as fast. Texts that it refuses are read again, for the words of the other one.
        with suppress(yaml.YAMLError, ValueError, OverflowError):
            return _compose_by_libyaml(text)
    loader = _Loader(text)
    try:
        return loader.get_single_node()
    finally:
        loader.dispose()


def _compose_by_libyaml(text: str) -> yaml.Node | None:
    """libyaml parses; what is made of it is made as ever."""

    parser: Any = vars(yaml.cyaml)["CParser"]  # types-PyYAML does not know it

    class Loader(_Bounded, parser, Resolver):  # type: ignore[misc]
        def __init__(self) -> None:
            parser.__init__(self, text)
            Composer.__init__(self)
            Resolver.__init__(self)

    node: yaml.Node | None = Loader().get_single_node()
    return node


class _Converter:
    """PyYAML's nodes -> ours, each anchor once.

    An anchor stands before its aliases, so in document order an aliased node is either finished
    (taken from ``_done``) or a part of itself (in ``_open``), and the recursion is never deeper
    than the text is nested.
    """

    def __init__(self, report: Report) -> None:
        self._report = report
        self._done: dict[int, tuple[Node, int, int]] = {}  # by id: node, its size, its depth
        self._open: set[int] = set()
        self._merged = 0

    def convert(self, node: yaml.Node, key: str) -> Node:
        """The node in our classes. ``key`` is its path, for problems.

        :raises _TooMuch: if the tree passes a limit or contains itself.
        """
        return self._measured(node, key)[0]

    def _measured(self, node: yaml.Node, key: str) -> tuple[Node, int, int]:
        if (known := self._done.get(id(node))) is not None:
            return known
        at = _mark(node.start_mark)
        if id(node) in self._open:
            raise _TooMuch(at, "an alias stands inside of its own anchor")
        self._open.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            result = self._sequence(node, at, key)
        elif isinstance(node, yaml.MappingNode):
            result = self._mapping(node, at, key)
        else:
            result = self._scalar(node, at, key), 1, 1
        _, size, depth = result
        if size > MAX_VALUES:
            raise _TooMuch(at, f"more than {MAX_VALUES} values, aliases expanded")
        if depth > MAX_DEPTH:
            raise _TooMuch(at, f"nested deeper than {MAX_DEPTH} levels, aliases expanded")
        self._open.remove(id(node))
        self._done[id(node)] = result
        return result

    def _scalar(self, node: yaml.Node, at: Mark, key: str) -> Scalar:
        kind = _KINDS.get(node.tag)
        if kind is None:
            self._report.add(at, key, f"the YAML tag {shown(_short(node.tag))} has no meaning here")
            kind = "tagged"
        return Scalar(at, str(node.value), kind, not getattr(node, "style", None))

    def _sequence(self, node: yaml.SequenceNode, at: Mark, key: str) -> tuple[Node, int, int]:
        self._refuse_tag(node, _SEQUENCE, at, key)
        parts = [self._measured(item, f"{key}[{i}]") for i, item in enumerate(node.value)]
        result = Sequence(at, tuple(part for part, _, _ in parts))
        return result, 1 + sum(s for _, s, _ in parts), 1 + max((d for _, _, d in parts), default=0)

    def _mapping(self, node: yaml.MappingNode, at: Mark, key: str) -> tuple[Node, int, int]:
        self._refuse_tag(node, _MAPPING, at, key)
        entries: dict[str, Entry] = {}
        merged: list[Mapping] = []
        size = depth = 0
        for name_node, value_node in node.value:
            name_at = _mark(name_node.start_mark)
            if not isinstance(name_node, yaml.ScalarNode):
                self._report.add(name_at, key, "a key must be text, not a list or a mapping")
                continue
            name = str(name_node.value)
            path = join(key, name)
            value, value_size, value_depth = self._measured(value_node, path)
            size, depth = size + value_size, max(depth, value_depth)
            if name_node.tag == _MERGE:
                merged += self._merge_sources(value, path)
            elif name in entries:
                first = entries[name].at.line
                self._report.add(name_at, path, f"duplicate key; it is already in line {first}")
            else:
                entries[name] = Entry(name_at, value)
        for source in merged:  # a mapping's own keys win, then the earlier source
            self._merged += len(source.entries)
            if self._merged > MAX_VALUES:
                raise _TooMuch(at, f"more than {MAX_VALUES} values, merge keys expanded")
            for name, entry in source.entries.items():
                entries.setdefault(name, entry)
        return Mapping(at, entries), 1 + size, 1 + depth

    def _merge_sources(self, value: Node, path: str) -> list[Mapping]:
        found = value.items if isinstance(value, Sequence) else (value,)
        sources = [one for one in found if isinstance(one, Mapping)]
        if len(sources) != len(found):
            self._report.add(value.at, path, "a merge key needs a mapping or a list of mappings")
        return sources

    def _refuse_tag(self, node: yaml.Node, usual: str, at: Mark, key: str) -> None:
        if node.tag != usual:
            self._report.add(at, key, f"the YAML tag {shown(_short(node.tag))} has no meaning here")


def _short(tag: str) -> str:
    return "!!" + tag[18:] if tag.startswith("tag:yaml.org,2002:") else tag
