"""The page that is made of the results of the benchmarks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.report import draw, markdown
from benchmarks.results import Results, Row, Table, read


def table() -> Table:
    ours = Row("siger", [{"cpu_us": 20.0}, {"cpu_us": 60.0}, {"cpu_us": 30.0}])
    nginx = Row("nginx", [{"cpu_us": 40.0}, {"cpu_us": 60.0}, {"cpu_us": 30.0}])
    broken = Row("other", [{"cpu_us": 1.0}], errors=3, note="ended\nwith a stack")
    return Table("small", "Small GET", [ours, nginx, broken])


def test_a_ratio_is_the_median_of_the_ratios_of_each_round() -> None:
    assert table().ratio("cpu_us", "siger", "nginx") == 1.0
    assert table().rows[0].median("cpu_us") == 30.0


def test_errors_void_a_row_however_fast_it_was() -> None:
    assert table().rows[2].median("cpu_us") is None
    assert table().ratio("cpu_us", "other", "nginx") is None


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    results = Results("http", "a machine", [table()])
    assert read(results.write(tmp_path / "new")) == results


def test_results_without_a_peer_are_compared_with_nginx(tmp_path: Path) -> None:
    file = Results("http", "a machine", [table()]).write(tmp_path)
    raw = json.loads(file.read_text())
    del raw["tables"][0]["peer"]
    file.write_text(json.dumps(raw))
    assert read(file).tables[0].peer == "nginx"


def test_a_table_is_compared_with_its_peer() -> None:
    other = Table("grpc", "Calls", table().rows[:2], peer="siger")
    assert "| nginx | 40.0 (30.0..60.0) | 1.00 |" in markdown([Results("grpc", "x", [other])])


def test_a_chart_shows_what_its_table_is_about(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="only in the extra bench")
    figures = {"typical_p99_ms": 1.0, "beside_typical_p99_ms": 3.0, "typical_p99_growth": 3.0}
    row = Row("siger", [figures])
    voided = Row("nginx", [{"typical_p99_growth": 1.0}], errors=1)
    draw([Results("grpc", "x", [Table("beside", "Beside", [row, voided])])], tmp_path)
    chart = (tmp_path / "beside.svg").read_text()
    assert "typical p99 beside / alone" in chart
    assert ">siger<" in chart
    assert ">nginx<" not in chart
