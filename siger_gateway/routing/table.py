"""The route table: compiled once, immutable, asked once per request.

Exact paths and prefixes are dict keys, so the cost of a match grows with the depth of the path,
not with the number of routes. Which of several routes takes a request:

1. the longest match: an exact path, then a template, then the longest prefix
2. of two templates the one that has a literal where the other has its first ``{name}``, counted
   from the left: ``/a/b/{y}`` before ``/a/{x}/c``
3. of the same path the main routes before the fallback ones, then the one with the most
   predicates, then the one that was listed first

A route whose predicates refuse the request leaves it to the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from siger_gateway.config.schema import MatchConfig

T = TypeVar("T")


class Rule(Generic[T]):
    """The predicates of one route beside its path; ``tier`` is 0, or 1 for a fallback route."""

    __slots__ = (
        "headers",
        "host",
        "host_suffix",
        "match",
        "methods",
        "takes_all",
        "target",
        "tier",
    )

    def __init__(self, match: MatchConfig, target: T, tier: int = 0) -> None:
        self.match = match
        self.target = target
        self.tier = tier
        self.methods = frozenset(method.encode() for method in match.methods)
        wildcard = match.host.startswith("*.")
        self.host = b"" if wildcard else match.host.encode()
        self.host_suffix = match.host[1:].encode() if wildcard else b""
        self.headers = tuple(
            (name.lower().encode(), value.encode()) for name, value in match.headers.items()
        )
        self.takes_all = self.predicates == 0

    @property
    def predicates(self) -> int:
        """How specific the rule is; a whole host counts for more than a suffix."""
        host = 2 if self.host else 1 if self.host_suffix else 0
        return 2 * bool(self.methods) + host + 2 * len(self.headers)

    def refusal(self, method: bytes, fields: Mapping[bytes, bytes]) -> str:
        """Why this rule does not take the request; empty when it does."""
        if self.methods and method not in self.methods:
            return "method"
        if self.host or self.host_suffix:
            host = host_name(fields.get(b"host", b""))
            if self.host and host != self.host:
                return "host"
            if self.host_suffix and not host.endswith(self.host_suffix):
                return "host"
        for name, value in self.headers:
            if fields.get(name) != value:
                return f"header {name.decode()}"
        return ""


class RouteTable(Generic[T]):
    """Finds the target of a request.

    :param entries: match and target of each route; of two that are equally good the earlier wins.
    :param fallback: further ones, asked after all ``entries`` of the same path.
    """

    __slots__ = (
        "_exact",
        "_exact_rules",
        "_longest_prefix",
        "_prefix_rules",
        "_prefixes",
        "_templates",
        "deciding",
    )

    def __init__(
        self,
        entries: Iterable[tuple[MatchConfig, T]],
        fallback: Iterable[tuple[MatchConfig, T]] = (),
    ) -> None:
        exact: dict[bytes, list[Rule[T]]] = {}
        prefixes: dict[bytes, list[Rule[T]]] = {}
        self._templates: _Node[T] | None = None
        rules = [Rule(match, target) for match, target in entries]
        rules += [Rule(match, target, 1) for match, target in fallback]
        for rule in sorted(rules, key=_rank):
            match = rule.match
            if match.path_prefix:
                prefixes.setdefault(match.path_prefix.rstrip("/").encode(), []).append(rule)
            elif "{" in match.path:
                if self._templates is None:
                    self._templates = _Node()
                self._templates.insert(match.path.encode().split(b"/"), rule)
            else:
                exact.setdefault(match.path.encode(), []).append(rule)
        self._exact_rules, self._prefix_rules = exact, prefixes
        self._exact = {path: _Choice.of(found) for path, found in exact.items()}
        self._prefixes = {path: _Choice.of(found) for path, found in prefixes.items()}
        self._longest_prefix = max(map(len, prefixes), default=0)
        self.deciding = frozenset(name for rule in rules for name, _ in rule.headers)
        """Names of the header fields by which any rule tells requests apart. ``fields`` has one
        value of each; of a request that has two, a service may read the other one."""

    def match(self, method: bytes, path: bytes, fields: Mapping[bytes, bytes]) -> T | None:
        """The target for a request, or None.

        :param path: in normal form, see ``routing.path``.
        :param fields: the header fields, names in lower case.
        """
        found = self._exact.get(path)
        if found is not None:
            if not isinstance(found, _Choice):
                return found
            for rule in found.rules:
                if rule.takes_all or not rule.refusal(method, fields):
                    return rule.target
        if self._templates is not None:
            for rule in self._templates.find(path.split(b"/"), 0):
                if not rule.refusal(method, fields):
                    return rule.target
        prefix = self._cut(path)
        while True:
            found = self._prefixes.get(prefix)
            if found is not None:
                if not isinstance(found, _Choice):
                    return found
                for rule in found.rules:
                    if rule.takes_all or not rule.refusal(method, fields):
                        return rule.target
            if not prefix:
                return None
            prefix = prefix[: prefix.rfind(b"/")]

    def match_preflight(
        self, method: bytes, path: bytes, fields: Mapping[bytes, bytes]
    ) -> T | None:
        """The target for the request that a preflight announces, with ``method``. Which header
        fields it is going to have, the preflight does not say: so they take no part."""
        for rule in self.candidates(path):
            if rule.refusal(method, fields).partition(" ")[0] in ("", "header"):
                return rule.target
        return None

    def _cut(self, path: bytes) -> bytes:
        """``path`` up to the last slash that leaves no more than the longest prefix there is."""
        longest = self._longest_prefix
        return path if len(path) <= longest else path[: max(path.rfind(b"/", 0, longest + 1), 0)]

    def candidates(self, path: bytes) -> Iterator[Rule[T]]:
        """Every rule whose path matches, in the order in which ``match`` asks them."""
        yield from self._exact_rules.get(path, ())
        if self._templates is not None:
            yield from self._templates.find(path.split(b"/"), 0)
        prefix = self._cut(path)
        while True:
            yield from self._prefix_rules.get(prefix, ())
            if not prefix:
                return
            prefix = prefix[: prefix.rfind(b"/")]


class _Choice(Generic[T]):
    """The rules of one path, of which a request may be refused by the first. Where there is no such
    choice, the target itself stands in its place: with 10,000 routes in turn, what a match touches
    is in no cache, so it touches as little as it can."""

    __slots__ = ("rules",)

    def __init__(self, rules: Iterable[Rule[T]]) -> None:
        self.rules = tuple(rules)

    @staticmethod
    def of(rules: list[Rule[T]]) -> T | _Choice[T]:
        return rules[0].target if rules[0].takes_all else _Choice(rules)


class _Node(Generic[T]):
    """One segment of the templates: literal children first, then the ``{name}`` child."""

    __slots__ = ("literals", "rules", "variable")

    def __init__(self) -> None:
        self.literals: dict[bytes, _Node[T]] = {}
        self.variable: _Node[T] | None = None
        self.rules: list[Rule[T]] = []

    def insert(self, segments: list[bytes], rule: Rule[T]) -> None:
        node = self
        for segment in segments:
            if segment[:1] == b"{":
                node.variable = node.variable or _Node()
                node = node.variable
            else:
                node = node.literals.setdefault(segment, _Node())
        node.rules.append(rule)

    def find(self, segments: list[bytes], depth: int) -> list[Rule[T]]:
        """The rules whose path matches; those found through literals first."""
        if depth == len(segments):
            return self.rules
        segment = segments[depth]
        literal = self.literals.get(segment)
        found = literal.find(segments, depth + 1) if literal is not None else []
        if self.variable is not None and segment:
            found = found + self.variable.find(segments, depth + 1)
        return found


def _rank(rule: Rule[T]) -> tuple[int, int]:
    """The order of rules that have the same path."""
    return rule.tier, -rule.predicates


def host_name(host: bytes) -> bytes:
    """The Host field's name in lower case, without port; an IPv6 literal keeps its brackets. The
    dot at the end of a whole name (RFC 1034 section 3.1) makes it no other host."""
    if host[:1] == b"[":
        return host[: host.find(b"]") + 1].lower()
    return host.partition(b":")[0].lower().removesuffix(b".")
