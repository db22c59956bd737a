"""Lines that a machine can read, whatever stands in them, and that never cost a request."""

from __future__ import annotations

import json
import logging
import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siger_gateway.telemetry import access_log as module
from siger_gateway.telemetry.access_log import FLUSH_AT, AccessLog
from siger_gateway.telemetry.access_record import AccessRecord
from siger_gateway.telemetry.log import JsonFormatter, utc_timestamp


def record(status: int = 200, path: str = "/", number: int = 0) -> AccessRecord:
    return AccessRecord(
        *(1.5, "id", "c", "GET", path, "r", "s", "e", status, 0.25, number, 2, "", "", "ua"),
        *(b"a=1&token=hush", "alice", "ci"),
    )


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def formatted(message: object, *args: object, **fields: object) -> dict[str, object]:
    entry = logging.LogRecord("name", logging.WARNING, "f", 1, message, args, None)
    entry.fields = fields
    written = JsonFormatter().format(entry)
    assert "\n" not in written
    written.encode()
    found = json.loads(written)
    assert isinstance(found, dict)
    return found


@given(st.binary(max_size=40))
def test_a_path_of_any_bytes_is_one_line_of_json(path: bytes) -> None:
    read, write = os.pipe()
    log = AccessLog("-", 1.0)
    os.dup2(write, log._fd)
    text = path.decode("latin-1")
    log.append(record(path=text))
    log.append(record(path="/end"))
    log.close()
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        first, second = pipe.read().splitlines()
    assert (json.loads(first)["path"], json.loads(second)["path"]) == (text, "/end")


def test_a_line_holds_every_field_of_the_record(tmp_path: Path) -> None:
    log = AccessLog(str(tmp_path / "log"), 1.0)
    log.append(record())
    log.close()
    (line,) = lines(tmp_path / "log")
    assert tuple(line) == AccessRecord.__struct_fields__
    assert (line["time"], line["duration"]) == ("1970-01-01T00:00:01.500Z", 0.25)
    assert (line["query"], line["user"], line["key_id"]) == ("a=1&token=***", "alice", "ci")


def test_lines_are_written_in_one_call_and_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    write = os.write
    log = AccessLog(str(tmp_path / "log"), 1.0)

    def counting(fd: int, data: bytes) -> int:
        if fd == log._fd:
            sizes.append(1)
        return write(fd, data)

    monkeypatch.setattr(module.os, "write", counting)
    for number in range(FLUSH_AT - 1):
        log.append(record(number=number))
    assert sizes == []
    log.append(record(number=FLUSH_AT - 1))
    assert sizes == [1]
    log.flush()
    assert sizes == [1]
    log.close()
    assert [line["bytes_in"] for line in lines(tmp_path / "log")] == list(range(FLUSH_AT))


def test_a_write_that_takes_only_a_part_is_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    log = AccessLog(str(tmp_path / "log"), 1.0)
    monkeypatch.setattr(
        module.os, "write", lambda fd, data: write(fd, data[:7] if fd == log._fd else data)
    )
    for number in range(5):
        log.append(record(number=number))
    log.close()
    assert [line["bytes_in"] for line in lines(tmp_path / "log")] == list(range(5))


@pytest.mark.parametrize(
    ("sample", "least", "most"), [(0.0, 0, 0), (0.2, 120, 280), (1.0, 1000, 1000)]
)
def test_a_share_of_the_successes_and_every_failure_is_logged(
    tmp_path: Path, sample: float, least: int, most: int
) -> None:
    random.seed(1)
    log = AccessLog(str(tmp_path / "log"), sample)
    for _ in range(1000):
        log.append(record(200))
    for status in (499, 500, 503, 599):
        log.append(record(status))
    log.close()
    statuses = [line["status"] for line in lines(tmp_path / "log")]
    assert least <= statuses.count(200) <= most
    assert statuses[-3:] == [500, 503, 599]


def test_a_full_disk_costs_lines_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    log = AccessLog("/dev/full", 1.0)
    for _ in range(2 * FLUSH_AT + 1):
        log.append(record())
    log.flush()
    log.reopen()
    log.append(record())
    log.close()
    assert caplog.text.count("access log lost lines") == 4
    assert log._waiting == []  # lost lines are not kept: memory has an end too


def test_rotation_goes_on_in_a_new_file_and_leaves_no_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = AccessLog(str(path), 1.0)
    descriptors = len(os.listdir("/proc/self/fd"))
    for number in range(5):
        log.append(record(number=number))
        path.rename(tmp_path / f"log.{number}")
        log.reopen()
        assert [line["bytes_in"] for line in lines(tmp_path / f"log.{number}")] == [number]
    assert len(os.listdir("/proc/self/fd")) == descriptors
    log.close()
    assert len(os.listdir("/proc/self/fd")) == descriptors - 1


def test_where_no_new_file_can_be_had_the_old_one_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    log = AccessLog(str(folder / "log"), 1.0)
    folder.rename(tmp_path / "moved")
    log.reopen()
    assert "access log not reopened" in caplog.text
    log.append(record())
    log.flush()
    assert len(lines(tmp_path / "moved" / "log")) == 1
    folder.mkdir()
    log.reopen()
    log.append(record())
    log.close()
    assert len(lines(folder / "log")) == 1


def test_an_application_line_holds_level_logger_time_and_fields() -> None:
    line = formatted("said %s", "it", service="s", count=3)
    assert (line["message"], line["level"], line["logger"]) == ("said it", "warning", "name")
    assert (line["service"], line["count"]) == ("s", 3)
    assert str(line["ts"]).endswith("Z")


@pytest.mark.parametrize(
    "value",
    [
        'a\nb\x00\x1b[31m"\\',
        "\udcff",
        2**64,
        -(2**64),
        {1: 2},
        {"a": "\udc80"},
        b"bytes",
        {1, 2},
        float("nan"),
        ValueError("x"),
        Path("\udcff"),
        None,
        [1, (2, "3")],
    ],
    ids=repr,
)
def test_an_application_line_is_json_whatever_its_fields_are(value: object) -> None:
    line = formatted("message", value=value, other="kept")
    assert "value" in line
    assert (line["message"], line["other"]) == ("message", "kept")
    assert "said" in str(formatted("said %s", value)["message"])


def test_a_traceback_is_part_of_the_line() -> None:
    try:
        raise ValueError("\udcff")
    except ValueError as error:
        info = (ValueError, error, error.__traceback__)
    entry = logging.LogRecord("n", logging.ERROR, "f", 1, "m", (), info)
    written = JsonFormatter().format(entry)
    assert "\n" not in written
    assert "ValueError" in json.loads(written)["exception"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (0.9996, "1970-01-01T00:00:00.999Z"),
        (1767225599.5, "2025-12-31T23:59:59.500Z"),
    ],
)
def test_times_are_rfc_3339_in_utc(seconds: float, text: str) -> None:
    assert utc_timestamp(seconds) == text
