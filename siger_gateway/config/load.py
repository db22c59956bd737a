"""Reads a configuration, and says everything that is wrong with it at once.

``bytes -> text -> tree -> Config -> checked Config``: ``document.parse`` gives every value a line,
``walk.Walk`` reads the tree by the type hints of ``schema.Config``, ``environment`` expands
``${NAME}`` and applies ``SIGER_<KEY>``, ``check.Checks`` looks at what spans several values. All of
them add to one ``Report``; only at the end is there an answer, a ``Loaded`` or a ``ConfigError``.

A configuration that is not entirely good is never returned, so a reload that fails leaves the
caller with the one that it has.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from siger_gateway.config import document
from siger_gateway.config.check import Checks
from siger_gateway.config.environment import overrides, referenced
from siger_gateway.config.problem import NOWHERE, ConfigError, Mark, Problem, Report
from siger_gateway.config.render import render_default
from siger_gateway.config.schema import RENAMED, Config
from siger_gateway.config.walk import Walk

__all__ = ["ConfigError", "Loaded", "Problem", "load", "loads", "read_text", "render_default"]

MAX_FILE: Final = 4 * 2**20
"""Bytes. More than ``document.MAX_VALUES`` values fit; /dev/zero does not."""


Check = Callable[[Config, Report, Callable[[str], Mark]], None]
"""A check that takes more than this package knows: of what a file holds, say. It adds to the report
where, by the third, a key stands."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that can be used, and what its owner should change nevertheless."""

    config: Config
    warnings: tuple[Problem, ...] = ()


def load(
    path: str | Path, environ: Mapping[str, str] = os.environ, checks: Iterable[Check] = ()
) -> Loaded:
    """The configuration in a file of UTF-8 YAML, overridden by the environment.

    :param environ: for ``${NAME}`` and ``SIGER_<KEY>``.
    :param checks: beside those of ``check.Checks``.
    :raises ConfigError: with every problem; also if the file cannot be read.
    """
    report = Report(str(path))
    text = read_text(path, report)
    report.raise_if_any()
    return loads(text, str(path), environ, checks)


def loads(
    text: str,
    file_name: str = "<text>",
    environ: Mapping[str, str] = os.environ,
    checks: Iterable[Check] = (),
) -> Loaded:
    """The configuration in ``text``; empty text means all defaults.

    :param file_name: stands in problems and warnings.
    :param environ: for ``${NAME}`` and ``SIGER_<KEY>``.
    :param checks: beside those of ``check.Checks``.
    :raises ConfigError: with every problem.
    """
    report = Report(file_name)
    root = document.parse(text, report)
    walk = Walk(report, environ)
    config = Config()
    if root is not None:
        config = walk.read(_without_old_names(root, walk, report), Config)
    overridden = overrides(environ, referenced(root), report)
    config = replace(config, **overridden)
    for key in overridden:  # what the file says no longer counts, so it cannot be to blame
        walk.marks.pop(key, None)
    Checks(config, report, walk.where).run()
    for check in checks:
        check(config, report, walk.where)
    report.raise_if_any()
    return Loaded(config, tuple(report.warnings))


def read_text(path: str | Path, report: Report) -> str:
    """The text of a file of UTF-8; if it cannot be read, ``""`` and a problem in ``report``."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        report.add(NOWHERE, "", "there is no such file")
        return ""
    except IsADirectoryError:
        report.add(NOWHERE, "", "this is a directory, not a file")
        return ""
    except OSError as error:
        report.add(NOWHERE, "", f"cannot be read: {error.strerror or 'unknown error'}")
        return ""
    except ValueError:  # a zero byte in the path
        report.add(NOWHERE, "", "this is not a file name")
        return ""
    if len(data) > MAX_FILE:
        report.add(NOWHERE, "", f"larger than {MAX_FILE // 2**20}MiB")
        return ""
    try:
        return data.decode("utf-8-sig")  # Windows editors begin UTF-8 with a byte order mark
    except UnicodeDecodeError as error:
        before = data[: error.start]
        at = Mark(before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1)
        report.add(at, "", f"not UTF-8: byte 0x{data[error.start]:02x}")
        return ""


def _without_old_names(root: document.Node, walk: Walk, report: Report) -> document.Node:
    """``root`` with the keys of the Go gateway under their new names, each with a warning."""
    if not isinstance(root, document.Mapping):
        return root
    kept = {name: entry for name, entry in root.entries.items() if name not in RENAMED}
    for name, entry in root.entries.items():
        if name not in RENAMED:
            continue
        new = RENAMED[name]
        if "." in new and walk.off(entry.value):
            report.warn(entry.at, name, f'the old name of "{new}"; please remove it')
        elif (other := _put(kept, new.split("."), entry)) is None:
            report.warn(entry.at, name, f'the old name of "{new}"; please rename it')
        else:
            reason = f'the old name of "{new}", which is in line {other.at.line} too'
            report.add(entry.at, name, reason)
    return document.Mapping(root.at, kept)


def _put(
    entries: dict[str, document.Entry], path: list[str], entry: document.Entry
) -> document.Entry | None:
    """Adds ``entry`` to ``entries`` below ``path``; what stands in its place, if anything does."""
    first, *rest = path
    there = entries.get(first)
    if there is None:
        for name in reversed(rest):
            entry = document.Entry(entry.at, document.Mapping(entry.at, {name: entry}))
        entries[first] = entry
        return None
    if not rest or not isinstance(there.value, document.Mapping):
        return there
    below = dict(there.value.entries)
    other = _put(below, rest, entry)
    entries[first] = document.Entry(there.at, document.Mapping(there.value.at, below))
    return other
