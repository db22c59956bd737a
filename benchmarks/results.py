"""What benchmarks have measured, as JSON: every part of ``make bench`` writes it, the report reads.

A table has a row for each contender of one workload and, in it, the figures of each round; a curve
has a line for each contender over the size of something. ``report.py`` makes the pages of them.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import TypeVar

Figures = dict[str, float]
"""The figures of one round, each with its unit at the end of its name: ``cpu_us``, ``rate_per_s``,
``p99_ms``, ``memory_mib``."""


T = TypeVar("T")


def turns(contenders: Sequence[T], number: int) -> Sequence[T]:
    """The order of a round: there and back, so that nobody always goes first."""
    return contenders if number % 2 == 0 else contenders[::-1]


def this_machine() -> str:
    """What figures depend on. Which Python matters: one that was built without profile-guided
    optimization, as pyenv does it by default, is a tenth slower here than a distribution's."""
    python = f"CPython {platform.python_version()} ({os.path.realpath(sys.executable)})"
    return f"{platform.platform()}, {os.cpu_count()} cores, {python}"


@dataclass(slots=True)
class Row:
    """One contender under one workload."""

    contender: str
    rounds: list[Figures] = field(default_factory=list)
    errors: int = 0
    """Of all rounds; any makes the row void: a fast error is no throughput."""
    note: str = ""

    def median(self, figure: str) -> float | None:
        """Of the rounds that have it; None if the row is void or no round has it."""
        values = [each[figure] for each in self.rounds if figure in each]
        return median(values) if values and not self.errors else None

    def spread(self, figure: str) -> tuple[float, float]:
        """The least and the largest of the rounds that have it."""
        values = [each[figure] for each in self.rounds if figure in each]
        return min(values), max(values)


@dataclass(slots=True)
class Table:
    """One workload; ``name`` is a short word that file names and links can have."""

    name: str
    title: str
    rows: list[Row] = field(default_factory=list)
    peer: str = "nginx"
    """The contender to which the others are compared."""

    def ratio(self, figure: str, contender: str, other: str) -> float | None:
        """Median of what the rounds of both give, round by round: drift falls on both alike."""
        found = {row.contender: row for row in self.rows}
        one, two = found.get(contender), found.get(other)
        if one is None or two is None or one.errors or two.errors:
            return None
        pairs = [
            (a[figure], b[figure])
            for a, b in zip(one.rounds, two.rounds, strict=False)
            if figure in a and b.get(figure)
        ]
        return median(a / b for a, b in pairs) if pairs else None


@dataclass(slots=True)
class Curve:
    """What something costs as ``x`` grows; ``lines`` maps a contender to its points."""

    name: str
    title: str
    x_label: str
    y_label: str
    lines: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


@dataclass(slots=True)
class Results:
    """What one part of the benchmark has measured, and on what machine."""

    part: str
    machine: str = field(default_factory=this_machine)
    tables: list[Table] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)

    def write(self, folder: Path) -> Path:
        """Writes ``<part>.json`` into ``folder``, which is made if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{self.part}.json"
        file.write_text(json.dumps(asdict(self), indent=1) + "\n")
        return file


def read(file: Path) -> Results:
    """What ``Results.write`` wrote. Raises ``KeyError``, ``TypeError`` or ``ValueError`` for
    anything else."""
    raw = json.loads(file.read_text())
    tables = [
        Table(**{**each, "rows": [Row(**row) for row in each["rows"]]}) for each in raw["tables"]
    ]
    curves = [Curve(**each) for each in raw["curves"]]
    return Results(raw["part"], raw["machine"], tables, curves)
