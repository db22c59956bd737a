"""The file of API keys: what it may hold, and everything that is wrong with it at once.

::

    keys:
      - id: ci-2026                       # stands in logs
        hash: sha256:9f86d08...           # of the whole key, in hexadecimal
        user: alice
        roles: [admin]                    # optional
        scopes: [jobs.write]              # optional
        expires: 2027-01-01T00:00:00Z     # optional

Hashes are plain SHA-256. A slow and salted hash (bcrypt) protects passwords, of which there are few
enough to try them all; a key of 256 random bits cannot be guessed at any speed, and a slow hash
would only let strangers burn the gateway's CPU. GitHub keeps its tokens the same way.

Mistakes are told without what was found: it may be a key that stands in the wrong place.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from math import inf
from typing import Final, TypeVar

from siger_gateway.config import document
from siger_gateway.config.document import Entry, Mapping, Node, Scalar, Sequence
from siger_gateway.config.load import read_text
from siger_gateway.config.names import BadText, parse_header_value, parse_token
from siger_gateway.config.problem import ConfigError, Mark, Problem, Report, join
from siger_gateway.filters.identity import Identity

PREFIX: Final = "siger_"
"""What a key begins with, so that scanners find keys in code and logs."""

_NAMES: Final = ("id", "hash", "user", "roles", "scopes", "expires")
_REQUIRED: Final = ("id", "hash", "user")

_HASH: Final = re.compile(r"sha256:([0-9a-fA-F]{64})")
_OTHER_HASH: Final = re.compile(
    r"(bcrypt|scrypt|argon2\w{0,2}|pbkdf2\w*|md5|sha1|sha384|sha512)[:$]|\$\w{1,16}\$"
)
_DATE_TIME: Final = re.compile(  # RFC 3339 section 5.6
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_WORD: Final = re.compile(r"[!#-+\--\[\]-~]{1,128}")
"""A role or a scope: ``scope-token`` of RFC 6749 section 3.3, without the comma, which separates
them in header fields."""

MAX_USER: Final = 256
"""Characters of a user's name: as many as an address for mail may have (RFC 5321 section 4.5.3.1),
and short enough for a header field."""

_LOOKS_SECRET: Final = re.compile(r"siger_[\w-]{43}|[0-9a-fA-F]{64}", re.ASCII)
_LONG: Final = re.compile(r"[A-Za-z0-9+/=_.$-]{32,}")
"""Keys and hashes are longer than that, names that are worth repeating are not."""

_KINDS: Final = {"integer": "a number", "tagged": "a tag", "nothing": "nothing"}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """Whom a key stands for. ``digest``: SHA-256 of the key."""

    digest: bytes = field(repr=False)
    identity: Identity


def load_keys(path: str) -> dict[bytes, ApiKey]:
    """The keys of a file, by their digests.

    :raises ConfigError: with every problem; none of them repeats a key or a hash.
    """
    report = Report(path)
    text = read_text(path, report)
    keys: dict[bytes, ApiKey] = {}
    try:
        report.raise_if_any()
        root = document.parse(text, report)
        report.raise_if_any()
        keys = _File(report).read(root)
        report.raise_if_any()
    except ConfigError as error:
        raise ConfigError(tuple(map(_without_secrets, error.problems))) from None
    return keys


def _without_secrets(problem: Problem) -> Problem:
    """Names that nobody knows, and PyYAML's own words, may hold what they were found in."""
    key, reason = (_LONG.sub("***", text) for text in (problem.key, problem.reason))
    return replace(problem, key=key, reason=reason)


class _Bad(Exception):
    """A value cannot be used; the message says why, and never what it is."""


class _File:
    """Reads one tree. Whatever is bad is added to ``report`` and left out."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._ids: dict[str, int] = {}  # their lines
        self._digests: dict[bytes, int] = {}

    def read(self, root: Node | None) -> dict[bytes, ApiKey]:
        at = Mark(1, 1) if root is None else root.at
        entries = root.entries if isinstance(root, Mapping) else {}
        for name, entry in entries.items():
            if name != "keys":
                self._report.add(entry.at, join("", name), "unknown key", word=name, among=["keys"])
        if "keys" not in entries:  # of a file that is being written, too
            self._report.add(at, "", 'expected "keys:" and a list; "keys: []" is no key at all')
            return {}
        items = entries["keys"].value
        if not isinstance(items, Sequence):
            self._report.add(items.at, "keys", f"expected a list, found {_described(items)}")
            return {}
        found = [self._key(item, f"keys[{index}]") for index, item in enumerate(items.items)]
        return {key.digest: key for key in found if key is not None}

    def _key(self, node: Node, key: str) -> ApiKey | None:
        if not isinstance(node, Mapping):
            self._report.add(node.at, key, f"expected a mapping, found {_described(node)}")
            return None
        entries = node.entries
        for name, entry in entries.items():
            if name not in _NAMES:
                path = join(key, name)
                self._report.add(entry.at, path, "unknown key", word=name, among=_NAMES)
        for name in _REQUIRED:
            if name not in entries:
                self._report.add(node.at, join(key, name), "this key is required")
        key_id = self._value(entries, key, "id", self._id)
        digest = self._value(entries, key, "hash", self._digest)
        user = self._value(entries, key, "user", _user)
        expires = self._value(entries, key, "expires", _expires)
        roles = self._words(entries, key, "roles")
        scopes = self._words(entries, key, "scopes")
        if key_id is None or digest is None or user is None:
            return None
        ends = inf if expires is None else expires
        return ApiKey(digest, Identity(user, "api_key", roles, scopes, ends, key_id))

    def _value(
        self, entries: dict[str, Entry], key: str, name: str, parse: Callable[[Scalar], T]
    ) -> T | None:
        """What ``name`` says; None where there is nothing that can be used."""
        if name not in entries:
            return None
        return self._parsed(entries[name].value, join(key, name), parse)

    def _parsed(self, node: Node, key: str, parse: Callable[[Scalar], T]) -> T | None:
        try:
            if not isinstance(node, Scalar):
                raise _Bad(f"expected a single value, found {_described(node)}")
            return parse(node)
        except _Bad as bad:
            self._report.add(node.at, key, str(bad))
            return None

    def _words(self, entries: dict[str, Entry], key: str, name: str) -> frozenset[str]:
        if name not in entries:
            return frozenset()
        node, key = entries[name].value, join(key, name)
        if not isinstance(node, Sequence):
            self._report.add(node.at, key, f"expected a list, found {_described(node)}")
            return frozenset()
        words: set[str] = set()
        for index, item in enumerate(node.items):
            word = self._parsed(item, f"{key}[{index}]", _word)
            if word in words:
                self._report.add(item.at, f"{key}[{index}]", "the same again")
            elif word is not None:
                words.add(word)
        return frozenset(words)

    def _id(self, node: Scalar) -> str:
        try:
            key_id = parse_token(_text(node))
        except BadText:
            raise _Bad("expected a name of letters, digits, _ and -, 1 to 64 characters") from None
        if _LOOKS_SECRET.fullmatch(key_id):
            raise _Bad("this looks like a key or a hash, and the id stands in logs")
        return _once(self._ids, key_id, node)

    def _digest(self, node: Scalar) -> bytes:
        found = _HASH.fullmatch(node.text)
        if found:
            return _once(self._digests, bytes.fromhex(found[1]), node)
        if node.text.startswith(PREFIX):
            raise _Bad(
                "this is a key; write its hash, and make another key: this one was in a file"
            )
        if re.fullmatch(r"[0-9a-fA-F]{64}", node.text):
            raise _Bad('"sha256:" is missing before it')
        if _OTHER_HASH.match(node.text):
            raise _Bad("hashes of this form are not supported: it has to be sha256:")
        raise _Bad("expected sha256: and 64 hexadecimal digits")


def _once(seen: dict[T, int], value: T, node: Scalar) -> T:
    if value in seen:
        raise _Bad(f"the same as in line {seen[value]}")
    seen[value] = node.at.line
    return value


def _described(node: Node) -> str:
    if isinstance(node, Scalar):
        return _KINDS.get(node.kind, f"a {node.kind}")
    return "a list" if isinstance(node, Sequence) else "a mapping"


def _text(node: Scalar) -> str:
    if node.kind != "string":
        raise _Bad(f"expected text, found {_described(node)}; put it in quotes")
    return node.text


def _user(node: Scalar) -> str:
    try:
        user = parse_header_value(_text(node))  # services get it in X-User-ID
    except BadText as bad:
        raise _Bad(bad.why) from None
    if len(user) > MAX_USER:
        raise _Bad(f"longer than {MAX_USER} characters")
    return user


def _word(node: Scalar) -> str:
    text = _text(node)
    if not _WORD.fullmatch(text):
        raise _Bad("expected printable ASCII without spaces, commas, quotes and backslashes")
    return text


def _expires(node: Scalar) -> float:
    """Unix time. YAML takes a bare one for a date, and one in quotes is good too."""
    if _DATE_TIME.fullmatch(node.text):
        try:
            return datetime.fromisoformat(node.text.upper()).timestamp()
        except (ValueError, OverflowError):  # the 30th of February
            pass
    raise _Bad("expected date, time and zone (RFC 3339), such as 2027-01-01T00:00:00Z")
