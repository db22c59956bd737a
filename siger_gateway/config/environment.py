"""Environment variables: ``${NAME}`` inside of values, and ``SIGER_<KEY>`` over top-level keys.

Expansion happens after YAML parsing, on the text of one scalar, and its result is not looked at
again: whatever a variable holds, it can neither add keys nor refer to further variables.

``${NAME}`` must be set; ``${NAME:default}`` need not be. A variable that is set to the empty string
is set. The default goes up to the first ``}`` and is taken as it stands. ``$$`` is a dollar sign,
and a dollar sign before anything else stays one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, get_type_hints

from siger_gateway.config import document
from siger_gateway.config.problem import Report, nearest, shown
from siger_gateway.config.schema import Config
from siger_gateway.config.values import BadValue, Rule, Value, is_scalar, read_scalar

PREFIX: Final = "SIGER_"

_REFERENCE: Final = re.compile(
    r"\$(?:(?P<dollar>\$)"
    r"|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::(?P<default>[^}]*))?\}"
    r"|(?P<malformed>\{[^}]*\}?))"
)


@dataclass(frozen=True, slots=True)
class Expanded:
    """The text of a scalar after expansion.

    ``expanded``: a variable took part. ``problems``: why it could not be done, one per variable.
    """

    text: str
    expanded: bool
    problems: tuple[str, ...]


def expand(text: str, environ: Mapping[str, str]) -> Expanded:
    """``text`` with every ``${NAME}`` and ``${NAME:default}`` replaced; raises nothing."""
    problems: list[str] = []
    expanded = False

    def value_of(found: re.Match[str]) -> str:
        nonlocal expanded
        if found["dollar"]:
            return "$"
        if found["malformed"]:
            problems.append(
                f"{shown(found[0])} is not a variable: write ${{NAME}}, ${{NAME:default}}, or $$ "
                "for a dollar sign"
            )
            return ""
        expanded = True
        value = environ.get(found["name"], found["default"])
        if value is None:
            problems.append(
                f"the environment variable {shown(found['name'])} is not set; set it, or give a "
                f"default: ${{{shown(found['name'])}:...}}"
            )
            return ""
        return value

    result = _REFERENCE.sub(value_of, text)
    return Expanded(result, expanded, tuple(problems))


def referenced(root: document.Node | None) -> set[str]:
    """Names of all variables that the file refers to, in parts that are switched off too."""
    names: set[str] = set()
    seen: set[int] = set()
    todo = [] if root is None else [root]
    while todo:
        node = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, document.Scalar):
            names.update(found["name"] for found in _REFERENCE.finditer(node.text) if found["name"])
        elif isinstance(node, document.Sequence):
            todo.extend(node.items)
        else:
            todo.extend(entry.value for entry in node.entries.values())
    return names


def overrides(environ: Mapping[str, str], used: set[str], report: Report) -> dict[str, Any]:
    """Top-level keys that the environment sets: ``SIGER_PORT=8081`` -> ``{"port": ":8081"}``.

    Bad values become problems, unknown ``SIGER_`` names warnings unless the file refers to them.

    :param used: names that the file refers to with ``${NAME}``.
    """
    known = dict(_overridable())
    values: dict[str, Any] = {}
    for name in sorted(name for name in environ if name.startswith(PREFIX)):
        if name not in known:
            if name not in used:
                _warn_unknown(name, known, report)
            continue
        key, hint, rule = known[name]
        text = environ[name]
        if key == "port" and text.startswith("tcp://"):
            report.add_environment(
                name,
                "this is what Kubernetes sets for a Service named siger, not a listen address; "
                "set enableServiceLinks: false in the pod, or name the Service differently",
            )
            continue
        try:
            values[key] = read_scalar(Value(text, "string", plain=True, source=text), hint, rule)
        except BadValue as error:
            report.add_environment(name, error.reason, error.suggestion)
    return values


def _warn_unknown(name: str, known: Mapping[str, Any], report: Report) -> None:
    if name[len(PREFIX) :].lower() in {one.name for one in fields(Config)}:
        report.warn_environment(
            name, "ignored: only keys with a single value can be set from the environment"
        )
    else:
        report.warn_environment(
            shown(name), "ignored: no key has this name", nearest(name, list(known))
        )


def _overridable() -> Iterator[tuple[str, tuple[str, Any, Rule]]]:
    hints = get_type_hints(Config, include_extras=True)
    for one in fields(Config):
        if is_scalar(hints[one.name]):
            yield PREFIX + one.name.upper(), (one.name, hints[one.name], Rule.of(one))
