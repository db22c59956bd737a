"""The commented default file, generated from the schema, so that it cannot be out of date.

Every key stands in it with its default and its documentation. Services and routes have no default
entries; what one may hold is shown as a comment.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Final, get_args, get_origin, get_type_hints

from siger_gateway.config.schema import Config
from siger_gateway.config.values import bare, choices, written

COMMENT_COLUMN: Final = 36
"""Column at which a comment begins, where the value leaves room for it."""

_HEAD: Final = """\
# Configuration of the Siger gateway: every key with its default. Keys that are missing have these
# values too; unknown keys and bad values are errors: `siger-gateway check` lists them.
# ${NAME} and ${NAME:default} are taken from the environment, $$ is a dollar sign, and SIGER_<KEY>
# overrides a top-level key: SIGER_PORT, SIGER_CONSUL_ADDRESS, ...
# Durations: 250ms, 30s, 5m, 24h. Sizes: 512, 64KiB, 10MiB. Shares: 50%.
"""


def render_default() -> str:
    """The text of a configuration file in which everything has its default; raises nothing."""
    lines = [_HEAD]
    hints = get_type_hints(Config, include_extras=True)
    for one in fields(Config):
        entry = _entry_class(hints[one.name])
        lines += _field(one, hints[one.name], "")
        if entry is not None:
            lines += ["# One of them, with all of its keys:"]
            lines += [f"#   {line}" for line in _example(entry, hints[one.name])]
        if entry is not None or is_dataclass(bare(hints[one.name])):
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _record(cls: Any, indent: str) -> Iterator[str]:
    hints = get_type_hints(cls, include_extras=True)
    # What it has of its own first, then what it has inherited.
    for one in sorted(fields(cls), key=lambda one: one.name not in cls.__annotations__):
        yield from _field(one, hints[one.name], indent)


def _field(one: Field[Any], hint: Any, indent: str) -> Iterator[str]:
    if is_dataclass(bare(hint)):
        yield f"{indent}{one.name}:".ljust(COMMENT_COLUMN) + f"# {one.metadata['doc']}"
        yield from _record(bare(hint), f"{indent}  ")
        return
    line = f"{indent}{one.name}: {_value(one, hint)}"
    yield f"{line.ljust(COMMENT_COLUMN - 2)}  # {_comment(one, hint)}"


def _example(cls: Any, hint: Any) -> Iterator[str]:
    lines = list(_record(cls, ""))
    if get_origin(bare(hint)) is dict:
        yield "name:"
        yield from (f"  {line}" for line in lines)
    else:
        yield f"- {lines[0]}"
        yield from (f"  {line}" for line in lines[1:])


def _entry_class(hint: Any) -> Any:
    """The schema class of the entries of a list or mapping field, or None."""
    arguments = get_args(bare(hint))
    entry = {tuple: arguments[:1], dict: arguments[1:]}.get(get_origin(bare(hint)), ())
    return entry[0] if entry and is_dataclass(entry[0]) else None


def _value(one: Field[Any], hint: Any) -> str:
    if get_origin(bare(hint)) is tuple:
        items: tuple[str, ...] = one.default if isinstance(one.default, tuple) else ()
        return f"[{', '.join(map(json.dumps, items))}]"
    if get_origin(bare(hint)) is dict:
        return "{}"
    if one.default is MISSING:
        return '""'
    text = written(one.default, hint)
    return json.dumps(text) if isinstance(one.default, str) else text


def _comment(one: Field[Any], hint: Any) -> str:
    notes = [str(one.metadata["doc"])]
    if one.default is MISSING and one.default_factory is MISSING:
        notes.append("required")
    options = choices(bare(hint)) or one.metadata.get("one_of", ())
    if len(options) > 1:
        notes.append(f"one of {', '.join(map(str, options))}")
    least, most = one.metadata.get("least"), one.metadata.get("most")
    if least is not None and most is not None:
        notes.append(f"{written(least, hint)} to {written(most, hint)}")
    return "; ".join(notes)
