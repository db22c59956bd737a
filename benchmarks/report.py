"""The results of ``make bench`` as a page and charts: ``python -m benchmarks.report``.

Reads every file of results in a folder, writes tables between two marks into docs/performance.md
and SVG charts beside it. The same results make the same files.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.results import Curve, Results, Row, Table, read

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
COLUMNS = {
    "cpu_us": "CPU µs",
    "rate_per_s": "per second",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "p999_ms": "p99.9 ms",
    "typical_p99_ms": "typical p99 ms",
    "beside_p50_ms": "p50 ms beside",
    "beside_p99_ms": "p99 ms beside",
    "p99_growth": "p99 beside / alone",
    "beside_typical_p99_ms": "typical p99 ms beside",
    "typical_p99_growth": "typical p99 beside / alone",
    "mib_per_cpu_s": "MiB per CPU s",
    "messages_per_cpu_s": "messages per CPU s",
    "memory_mib": "memory MiB",
}
"""Figures that have a column, in this order; others stand in the JSON only."""
MAIN = {
    "typical_p99_growth": "typical p99 beside / alone",
    "cpu_us": "µs of CPU for each request",
}
"""By the first of these that a table has it is ordered and drawn, with its axis."""


def markdown(results: list[Results]) -> str:
    """All tables and charts."""
    parts = []
    for one in results:
        parts.append(f"Measured on {one.machine}.")
        parts += [_table(table) for table in one.tables]
        parts += [
            f"### {curve.title}\n\n![{curve.title}](charts/{curve.name}.svg)"
            for curve in one.curves
        ]
    return "\n\n".join(parts)


def _table(table: Table) -> str:
    shown = [name for name in COLUMNS if any(name in f for row in table.rows for f in row.rounds)]
    names = [row.contender for row in table.rows]
    # The first row where the peer takes no part.
    peer = table.peer if table.peer in names else names[0] if names else ""
    main = next((name for name in [*MAIN, *shown] if name in shown), "")
    head = ["", *(COLUMNS[name] for name in shown), f"x {peer}"]
    lines = [f"### {table.title}", "", _line(head), _line(["---", *["--:"] * (len(head) - 1)])]
    rows = sorted(table.rows, key=lambda one: one.median(main) or float("inf"))
    lines += [_line(_cells(row, table, shown, peer, main)) for row in rows]
    notes = [f"{row.contender}: {row.note}." for row in table.rows if row.note and not row.errors]
    return "\n".join([*lines, *(["", "\n".join(notes)] if notes else [])])


def _cells(row: Row, table: Table, shown: list[str], peer: str, main: str) -> list[str]:
    if row.errors or not row.rounds:
        why = " ".join(row.note.split())[:80]
        return [row.contender, f"void, {row.errors} errors {why}", *[""] * len(shown)]
    cells = [row.contender]
    for name in shown:
        value = row.median(name)
        text = "" if value is None else _number(value)
        if name == main and len(row.rounds) > 1:
            low, high = row.spread(name)
            text += f" ({_number(low)}..{_number(high)})"
        cells.append(text)
    ratio = table.ratio(main, row.contender, peer)
    return [*cells, "" if ratio is None else f"{ratio:.2f}"]


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def put_between_marks(page: str, text: str) -> str:
    """``page`` with ``text`` between the marks, which are put at its end if there are none."""
    if BEGIN not in page:
        page = f"{page.rstrip()}\n\n{BEGIN}\n{END}\n"
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}"


def draw(results: list[Results], folder: Path) -> None:
    """A bar chart for each table that has a main figure, a line chart for each curve."""
    import matplotlib as mpl  # only in the extra ``bench``

    mpl.use("svg")
    # The same results must make the same file; the colours can be read on white and on black.
    mpl.rcParams.update({"svg.hashsalt": "siger", "svg.fonttype": "none", "font.size": 9})
    for name in ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"):
        mpl.rcParams[name] = "#808080"
    folder.mkdir(parents=True, exist_ok=True)
    for one in results:
        for table in one.tables:
            _bars(table, folder / f"{table.name}.svg")
        for curve in one.curves:
            _lines(curve, folder / f"{curve.name}.svg")


def _bars(table: Table, file: Path) -> None:
    from matplotlib import pyplot

    values = {main: [(row.median(main), row.contender) for row in table.rows] for main in MAIN}
    main = next((one for one in MAIN if any(value is not None for value, _ in values[one])), None)
    if main is None:
        return
    found = sorted(
        ((value, name) for value, name in values[main] if value is not None), reverse=True
    )
    figure, axes = pyplot.subplots(figsize=(7, 0.35 * len(found) + 0.9))
    colours = ["#d9822b" if name.startswith("siger") else "#5b8db8" for _, name in found]
    bars = axes.barh([name for _, name in found], [value for value, _ in found], color=colours)
    axes.bar_label(bars, fmt=_number, padding=3, color="#808080")
    axes.set_xlabel(MAIN[main])
    axes.set_title(table.title)
    _save(figure, axes, file)


def _lines(curve: Curve, file: Path) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3.2))
    for name, points in curve.lines.items():
        axes.plot([x for x, _ in points], [y for _, y in points], marker="o", label=name)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel(curve.x_label)
    axes.set_ylabel(curve.y_label)
    axes.set_title(curve.title)
    axes.legend(framealpha=0)
    _save(figure, axes, file)


def _save(figure: object, axes: object, file: Path) -> None:
    from matplotlib import pyplot

    for side in ("top", "right"):
        axes.spines[side].set_visible(False)  # type: ignore[attr-defined]
    figure.savefig(file, transparent=True, bbox_inches="tight", metadata={"Date": None})  # type: ignore[attr-defined]
    pyplot.close(figure)  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("build/bench"))
    parser.add_argument("--page", type=Path, default=Path("docs/performance.md"))
    options = parser.parse_args()
    results = [read(file) for file in sorted(options.results.glob("*.json"))]
    page = options.page.read_text() if options.page.exists() else "# Performance\n"
    options.page.write_text(put_between_marks(page, markdown(results)))
    draw(results, options.page.parent / "charts")


if __name__ == "__main__":
    main()
