"""The tree of a file -> the classes of the schema, by their type hints alone.

Nothing here knows a key by name. A value that cannot be read becomes a problem and is replaced by
a stand-in (the default, or an empty value of its type), so that one walk finds every mistake and
the checks after it have a whole ``Config`` to look at; ``Report`` remembers which keys hold
stand-ins, and the ``Config`` is thrown away if there was any.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from typing import Any, Final, TypeVar, get_args, get_origin, get_type_hints

from siger_gateway.config.document import Entry, Node, Scalar, Sequence
from siger_gateway.config.document import Mapping as MappingNode
from siger_gateway.config.environment import expand
from siger_gateway.config.problem import NOWHERE, Mark, Report, ancestry, join, shown
from siger_gateway.config.schema import PLANNED, SHORTHAND
from siger_gateway.config.values import BadValue, Rule, Value, bare, choices, read_scalar

T = TypeVar("T")

_BAD: Final = object()
"""What reading returns for a value that was reported; it never leaves this module."""

_ANY: Final = Rule()
"""The rule of list items and mapping values: their type says everything."""


class Walk:
    """Reads one tree. ``marks``: the key path of everything that the file holds -> its place."""

    def __init__(self, report: Report, environ: Mapping[str, str]) -> None:
        self.marks: dict[str, Mark] = {}
        self._report = report
        self._environ = environ

    def read(self, node: Node, cls: type[T]) -> T:
        """An instance of the schema class ``cls`` from the top of a file; raises nothing."""
        self.marks[""] = node.at
        result: T = self._record(node, cls, "")
        return result

    def where(self, key: str) -> Mark:
        """The place of ``key``, or of the nearest thing that the file has around it."""
        around = (self.marks[one] for one in ancestry(key) if one in self.marks)
        return next(around, self.marks.get("", NOWHERE))

    def off(self, node: Node) -> bool:
        """Whether a value of a planned key says that the feature is not used."""
        if isinstance(node, Sequence):
            return not node.items
        if isinstance(node, MappingNode):
            return all(self.off(entry.value) for entry in node.entries.values())
        found = expand(node.text, self._environ)
        if found.problems:
            return False
        if found.text in ("", "none"):
            return True
        words = {"nothing": (node.text,), "boolean": ("false", "no", "off"), "integer": ("0",)}
        return found.text.lower() in words.get(node.kind, ())

    def _value(self, node: Node, hint: Any, rule: Rule, key: str) -> Any:
        if isinstance(node, Scalar) and node.kind == "tagged":
            return _BAD
        plain = bare(hint)
        if is_dataclass(plain):
            return self._record(node, plain, key)
        if get_origin(plain) is tuple:
            if rule.alone and isinstance(node, MappingNode):
                node = Sequence(node.at, (node,))
            return self._list(node, get_args(plain)[0], key)
        if get_origin(plain) is dict:
            key_hint, value_hint = get_args(plain)
            return self._table(node, key_hint, value_hint, key)
        return self._scalar(node, hint, rule, key)

    def _record(self, node: Node, cls: Any, key: str) -> Any:
        hints = _hints(cls)
        known = {one.name: one for one in fields(cls)}
        entries = self._entries(node, key, cls)
        if entries is None:
            name = SHORTHAND[cls.__name__]
            value = self._value(node, hints[name], Rule.of(known[name]), key)
            return _BAD if value is _BAD else cls(**{name: value})
        values: dict[str, Any] = {}
        meant: set[str] = set()  # keys that are probably there, misspelt
        for name, entry in entries.items():
            path = join(key, name)
            if name in known:
                self._mark(path, entry)
                values[name] = self._value(entry.value, hints[name], Rule.of(known[name]), path)
            elif name in PLANNED.get(cls.__name__, ()):
                if not self.off(entry.value):
                    self._report.add(entry.at, path, "not supported yet")
            else:
                meant.add(self._report.add(entry.at, path, "unknown key", word=name, among=known))
        for name in meant - {""} - entries.keys():
            self._report.mark_bad(join(key, name))
        for name, one in known.items():
            if values.get(name, _BAD) is _BAD:
                values[name] = _default(one, hints[name])
            path = join(key, name)
            if _required(one) and name not in entries and self._report.is_good(path):
                self._report.add(self.where(key), path, "this key is required")
        return cls(**values)

    def _entries(self, node: Node, key: str, cls: Any) -> dict[str, Entry] | None:
        """The entries of a mapping; none if there is nothing or something wrong. None means that
        the node is a scalar in place of the mapping, and that ``cls`` takes one."""
        if isinstance(node, MappingNode):
            return node.entries
        if isinstance(node, Scalar) and node.kind == "nothing":
            return {}
        if isinstance(node, Scalar) and cls is not None and cls.__name__ in SHORTHAND:
            return None
        self._report.add(node.at, key, f"expected a mapping, found {self._described(node)}")
        return {}

    def _list(self, node: Node, hint: Any, key: str) -> Any:
        if isinstance(node, Scalar) and node.kind == "nothing":
            return ()
        if not isinstance(node, Sequence):
            self._report.add(node.at, key, f"expected a list, found {self._described(node)}")
            return _BAD
        values: list[Any] = []
        seen: dict[str, int] = {}
        for index, item in enumerate(node.items):
            path = f"{key}[{index}]"
            self.marks[path] = item.at
            value = self._value(item, hint, _ANY, path)
            if isinstance(value, str):
                if value in seen:
                    self._report.add(
                        item.at, path, f'"{shown(value)}" is already in line {seen[value]}'
                    )
                seen.setdefault(value, item.at.line)
            values.append(_stand_in(hint) if value is _BAD else value)
        return tuple(values)

    def _table(self, node: Node, key_hint: Any, hint: Any, key: str) -> Any:
        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for written, entry in (self._entries(node, key, None) or {}).items():
            path = join(key, written)
            self._mark(path, entry)
            name = written
            try:
                as_key = Value(written, "string", plain=True, source=written, expanded=False)
                name = read_scalar(as_key, key_hint, _ANY)
            except BadValue as error:
                self._report.add(entry.at, path, error.reason, suggestion=error.suggestion)
            if name in values:
                reason = f'the same name as in line {lines[name]}, "{shown(name)}"'
                self._report.add(entry.at, path, reason)
            value = self._value(entry.value, hint, _ANY, path)
            values[name] = _stand_in(hint) if value is _BAD else value
            lines[name] = entry.at.line
        return values

    def _scalar(self, node: Node, hint: Any, rule: Rule, key: str) -> Any:
        if not isinstance(node, Scalar):
            self._report.add(
                node.at, key, f"expected a single value, found {self._described(node)}"
            )
            return _BAD
        found = expand(node.text, self._environ)
        for reason in found.problems:
            self._report.add(node.at, key, reason)
        if found.problems:
            return _BAD
        source = node.text if found.expanded else found.text
        value = Value(found.text, node.kind, node.plain, source, found.expanded)
        try:
            return read_scalar(value, hint, rule)
        except BadValue as error:
            self._report.add(node.at, key, error.reason, suggestion=error.suggestion)
            return _BAD

    def _described(self, node: Node) -> str:
        if isinstance(node, Sequence):
            return "a list"
        if isinstance(node, MappingNode):
            return "a mapping"
        # Not expanded, so a secret from the environment is never in a message.
        return Value(node.text, node.kind, node.plain, node.text, expanded=False).described()

    def _mark(self, path: str, entry: Entry) -> None:
        # The line of a whole block is that of its key; a single value has its own place.
        at = entry.value.at if isinstance(entry.value, Scalar) else entry.at
        self.marks[path] = at


def _required(one: Field[Any]) -> bool:
    return one.default is MISSING and one.default_factory is MISSING


@cache
def _hints(cls: Any) -> dict[str, Any]:
    """Every annotation is compiled to read it: of 10,000 routes, seconds if not remembered."""
    return get_type_hints(cls, include_extras=True)


def _default(one: Field[Any], hint: Any) -> Any:
    if one.default is not MISSING:
        return one.default
    return _stand_in(hint) if one.default_factory is MISSING else one.default_factory()


def _stand_in(hint: Any) -> Any:
    """Some value of a type, where the file has none that can be used."""
    plain = bare(hint)
    if options := choices(plain):
        return options[0]
    if is_dataclass(plain):
        hints = get_type_hints(plain, include_extras=True)
        return plain(**{one.name: _default(one, hints[one.name]) for one in fields(plain)})  # type: ignore[operator]
    return (get_origin(plain) or plain)()
