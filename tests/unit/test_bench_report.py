"""The page that is made of the results of the benchmarks."""

from __future__ import annotations

from pathlib import Path

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
