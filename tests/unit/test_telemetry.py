"""Metrics that Prometheus can read, logs that a machine can read, health that is judged."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from siger_gateway.api.health import STALE_DISCOVERY, Facts, judge
from siger_gateway.errors import REASONS, GatewayError
from siger_gateway.http1.timeouts import TICK, TimeoutQueue
from siger_gateway.telemetry.log import FLUSH_AT, AccessLog, AccessRecord, JsonFormatter
from siger_gateway.telemetry.metrics import MAX_JOB_TYPES, Histogram, Metrics


def test_the_exposition_is_valid_in_both_formats() -> None:
    metrics = Metrics()
    metrics.routes["r"].requests[b"GET", 200] += 3
    metrics.routes["r"].duration.observe(0.02)
    metrics.local_replies["no_route"] += 1
    metrics.gauge("siger_ledger_jobs", "Jobs.", (), lambda: [((), 7.0)])
    text, content_type = metrics.render("")
    assert content_type.startswith("text/plain")
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }
    labels = (("code", "200"), ("method", "GET"), ("route", "r"))
    assert samples["siger_http_requests_total", *labels] == 3
    bucket = (("le", "0.025"), ("route", "r"))
    assert samples["siger_http_request_duration_seconds_bucket", *bucket] == 1
    assert samples["siger_ledger_jobs",] == 7
    assert samples["process_resident_memory_bytes",] > 1e6
    body, content_type = metrics.render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert len(list(openmetrics(body.decode()))) > 15


def test_a_histogram_counts_up_to_and_with_its_bounds() -> None:
    histogram = Histogram()
    for seconds in (0.0, 0.001, 0.0011, 59.0, 61.0):
        histogram.observe(seconds)
    buckets = dict(histogram.buckets())
    assert (buckets["0.001"], buckets["0.0025"], buckets["60.0"], buckets["+Inf"]) == (2, 3, 4, 5)


def test_job_types_from_clients_make_a_bounded_number_of_series() -> None:
    metrics = Metrics()
    for number in range(1000):
        metrics.job_submitted(f"type{number}")
    assert len(metrics.jobs_submitted) == MAX_JOB_TYPES + 1
    assert metrics.jobs_submitted["other"] == 1000 - MAX_JOB_TYPES


def record(status: int = 200, path: str = "/x") -> AccessRecord:
    return AccessRecord(
        0.0, "id", "c", "GET", path, "r", "s", "e", status, 0.0123456789, 1, 2, "", "", "ua"
    )


def test_access_lines_are_json_and_written_in_batches(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = AccessLog(str(path), 1.0)
    log.append(record(path='/"\n\x1b'))
    assert path.read_text() == ""
    log.flush()
    line = json.loads(path.read_text())
    assert line["time"] == "1970-01-01T00:00:00.000Z"
    assert (line["path"], line["duration"], line["bytes_out"]) == ('/"\n\x1b', 0.012346, 2)
    for _ in range(FLUSH_AT):
        log.append(record())
    assert len(path.read_text().splitlines()) == 1 + FLUSH_AT
    log.close()


def test_sampling_leaves_out_successes_only(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = AccessLog(str(path), 0.0)
    for status in (200, 404, 500, 503):
        log.append(record(status))
    log.close()
    assert [json.loads(line)["status"] for line in path.read_text().splitlines()] == [500, 503]


def test_a_rotated_log_goes_on_in_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = AccessLog(str(path), 1.0)
    log.append(record())
    path.rename(tmp_path / "log.1")
    log.reopen()
    log.append(record())
    log.close()
    assert len(path.read_text().splitlines()) == 1
    assert len((tmp_path / "log.1").read_text().splitlines()) == 1


def test_a_full_disk_stops_no_traffic(caplog: pytest.LogCaptureFixture) -> None:
    log = AccessLog("/dev/full", 1.0)
    log.append(record())
    log.flush()
    assert "access log lost lines" in caplog.text
    log.close()


def test_an_application_line_is_json_with_its_fields() -> None:
    try:
        raise ValueError("why")
    except ValueError:
        import sys

        line = logging.LogRecord("n", logging.INFO, "f", 1, "said %d", (1,), sys.exc_info())
    line.fields = {"service": "s", "odd": {1, 2}}
    written = json.loads(JsonFormatter().format(line))
    assert (written["message"], written["level"], written["service"]) == ("said 1", "info", "s")
    assert "ValueError: why" in written["exception"]


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_is_a_problem_document(reason: str) -> None:
    error = GatewayError(reason)
    document = json.loads(error.problem(instance="/x", request_id="i"))
    assert document["status"] == REASONS[reason].status
    assert (document["reason"], document["instance"], document["request_id"]) == (reason, "/x", "i")
    assert document["type"] == f"urn:siger:problem:{reason}"
    assert document["detail"].endswith(".")


GOOD = Facts(serving=True, draining=False, services={"s": 2}, discovery_age=1.0, nats=True)


@pytest.mark.parametrize(
    ("services", "age", "nats", "status"),
    [
        ({"s": 2}, 1.0, True, "pass"),
        ({}, None, None, "pass"),
        ({"s": 2}, None, None, "pass"),
        ({"s": 2}, None, False, "warn"),
        ({"s": 0}, None, True, "warn"),
        ({"s": 0, "t": 1}, None, None, "warn"),
        ({"s": 1}, STALE_DISCOVERY + 1, None, "warn"),
        ({"s": 0}, None, None, "fail"),
        ({"s": 0}, None, False, "fail"),
        ({}, None, False, "fail"),
    ],
)
def test_health_fails_only_when_nothing_works(
    services: dict[str, int], age: float | None, nats: bool | None, status: str
) -> None:
    facts = Facts(serving=True, draining=False, services=services, discovery_age=age, nats=nats)
    assert judge(facts)[0] == status


class Thing:
    def __init__(self) -> None:
        self.expired = 0

    def on_timeout(self) -> None:
        self.expired += 1


def test_what_is_due_expires_once_and_what_is_discarded_never() -> None:
    queue = TimeoutQueue(5.0, 100.0)
    first, second, later = Thing(), Thing(), Thing()
    queue.add(first)
    queue.add(second)
    queue.expire(103.0)
    queue.add(later)
    queue.discard(second)
    queue.discard(second)
    queue.expire(105.0 + 2 * TICK)
    queue.expire(106.0)
    assert (first.expired, second.expired, later.expired, len(queue)) == (1, 0, 0, 1)
    queue.expire(109.0)
    assert (first.expired, later.expired, len(queue)) == (1, 1, 0)
