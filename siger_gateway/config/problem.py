"""What is wrong in a configuration, and where: the words in which every other part reports.

A reader of a configuration wants all mistakes at once, so nothing here stops at the first one:
the parts of the loader add to one ``Report``, and ``load`` raises one ``ConfigError`` at the end.
The report also knows which keys are already known to be bad, so that a later check stays silent
about what only follows from an earlier mistake.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

SHOWN_CHARACTERS: Final = 80
"""Characters of a value that a message repeats; a whole certificate pasted by mistake is noise."""

SUGGESTED_PROBLEMS: Final = 100
"""Problems that get a suggestion. Comparing names is quadratic, and nobody reads further."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a file. Line and column count from 1; line 0 means the file as a whole."""

    line: int
    column: int


NOWHERE: Final = Mark(0, 0)


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake, or one warning.

    ``line`` and ``column`` count from 1, and are 0 for the file as a whole and for environment
    variables (``file`` is then ``environment``). ``key`` is a path such as
    ``routes[2].match.path``. ``suggestion`` is the nearest valid name or value, or ``""``.
    """

    file: str
    line: int
    column: int
    key: str
    reason: str
    suggestion: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        key = f" {self.key}:" if self.key else ""
        hint = f'; did you mean "{self.suggestion}"?' if self.suggestion else ""
        return f"{place}:{key} {self.reason}{hint}"


class ConfigError(Exception):
    """The configuration cannot be used. ``problems`` holds every reason, in file order."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class Report:
    """Collects the problems and warnings of one file. Owned by one call of ``load``."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.warnings: list[Problem] = []
        self._problems: list[Problem] = []
        self._bad: set[str] = set()
        self._around_bad: set[str] = set()  # the bad keys, and all that they are part of

    def add(
        self,
        at: Mark,
        key: str,
        reason: str,
        *,
        suggestion: str = "",
        word: str = "",
        among: Collection[str] = (),
    ) -> str:
        """A problem at ``key``; the suggestion is given, or is the one of ``among`` nearest to
        ``word``. Returns the suggestion, ``""`` if there is none."""
        if word and len(self._problems) < SUGGESTED_PROBLEMS:
            suggestion = nearest(word, among)
        self._problems.append(Problem(self.file, at.line, at.column, key, reason, suggestion))
        self.mark_bad(key)
        return suggestion

    def add_environment(self, name: str, reason: str, suggestion: str = "") -> None:
        """A problem in the environment variable ``name``."""
        self._problems.append(Problem("environment", 0, 0, name, reason, suggestion))

    def warn(self, at: Mark, key: str, reason: str) -> None:
        """A warning at ``key``: the file can be used, but should be changed."""
        self.warnings.append(Problem(self.file, at.line, at.column, key, reason))

    def warn_environment(self, name: str, reason: str, suggestion: str = "") -> None:
        """A warning about the environment variable ``name``."""
        self.warnings.append(Problem("environment", 0, 0, name, reason, suggestion))

    def mark_bad(self, key: str) -> None:
        """From now on ``key`` counts as bad, without a problem of its own."""
        self._bad.add(key)
        self._around_bad.update(ancestry(key))

    def is_good(self, *keys: str) -> bool:
        """Whether no problem is known at these keys or at anything that they are part of."""
        if not self._bad:  # as a rule
            return True
        return not any(part in self._bad for key in keys for part in ancestry(key))

    def is_good_below(self, key: str) -> bool:
        """Whether no problem is known at ``key``, around it or inside of it."""
        return self.is_good(key) and key not in self._around_bad

    def raise_if_any(self) -> None:
        """:raises ConfigError: with all problems, if there are any; those of the file first."""
        if self._problems:
            ordered = sorted(
                self._problems, key=lambda one: (one.file != self.file, one.line, one.column)
            )
            raise ConfigError(tuple(ordered))


def join(key: str, name: str) -> str:
    """The key path of ``name`` inside of ``key``; the file as a whole is ``""``."""
    return f"{key}.{shown(name)}" if key else shown(name)


def ancestry(key: str) -> list[str]:
    """``a.b[0].c`` -> itself, ``a.b[0]``, ``a.b`` and ``a``; nearest first."""
    keys = [key]
    while (cut := max(key.rfind("."), key.rfind("["))) > 0:
        key = key[:cut]
        keys.append(key)
    return keys


def nearest(word: str, among: Collection[str]) -> str:
    """The name that ``word`` is probably a misspelling of, or ``""``."""
    if len(word) > SHOWN_CHARACTERS or len(among) > 1000:  # difflib takes quadratic time
        return ""
    return next(iter(difflib.get_close_matches(word, among, n=1)), "")


def shown(text: str) -> str:
    """``text`` on one line, safe for a terminal and a log, cut at ``SHOWN_CHARACTERS``."""
    cut = text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
    if cut.isprintable():  # as a rule
        return cut
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in cut
    )
