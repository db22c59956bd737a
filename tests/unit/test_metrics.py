"""The exposition, read back by Prometheus' own parsers."""

from __future__ import annotations

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from siger_gateway.errors import REASONS
from siger_gateway.telemetry.metrics import DURATION_BOUNDS, MAX_JOB_TYPES, Histogram, Metrics

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
Figures = dict[tuple[str, frozenset[tuple[str, str]]], float]


def figures(metrics: Metrics, accept: str = "") -> Figures:
    """Every sample of the exposition; a sample that is there twice is a fault."""
    text, content_type = metrics.render(accept)
    read = read_openmetrics if "openmetrics" in content_type else read_text
    found: Figures = {}
    for family in read(text.decode()):
        assert family.documentation
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def busy() -> Metrics:
    metrics = Metrics()
    route = metrics.routes["r"]
    route.requests[b"GET", 200] += 3
    route.requests[b"POST", 503] += 1
    for seconds in (0.001, 0.002, 1.5, 100.0):
        route.duration.observe(seconds)
    service = metrics.services["s"]
    service.outcomes["2xx"] += 2
    service.outcomes["connect_refused"] += 1
    service.retries["connect_refused"] += 1
    service.duration.observe(0.2)
    metrics.in_flight = 4
    for reason in REASONS:
        metrics.local_replies[reason] += 1
    metrics.job_submitted("train")
    metrics.job_events["completed"] += 1
    metrics.job_publish.observe(0.004)
    metrics.config_reloads["ok"] += 1
    metrics.gauge("siger_x", "X.", ("service", "state"), lambda: [(("s", "idle"), 2.5)])
    return metrics


@pytest.mark.parametrize("accept", ["", "text/plain", OPENMETRICS])
def test_what_was_counted_is_what_prometheus_reads(accept: str) -> None:
    found = figures(busy(), accept)
    expected = {
        key("siger_http_requests_total", route="r", method="GET", code="200"): 3,
        key("siger_http_requests_total", route="r", method="POST", code="503"): 1,
        key("siger_http_request_duration_seconds_count", route="r"): 4,
        key("siger_http_request_duration_seconds_bucket", route="r", le="0.001"): 1,
        key("siger_http_request_duration_seconds_bucket", route="r", le="2.5"): 3,
        key("siger_http_request_duration_seconds_bucket", route="r", le="60.0"): 3,
        key("siger_http_request_duration_seconds_bucket", route="r", le="+Inf"): 4,
        key("siger_upstream_requests_total", service="s", outcome="2xx"): 2,
        key("siger_upstream_requests_total", service="s", outcome="connect_refused"): 1,
        key("siger_upstream_request_duration_seconds_count", service="s"): 1,
        key("siger_retries_total", service="s", reason="connect_refused"): 1,
        key("siger_http_requests_in_flight"): 4,
        key("siger_jobs_submitted_total", type="train"): 1,
        key("siger_job_events_total", status="completed"): 1,
        key("siger_job_publish_duration_seconds_count"): 1,
        key("siger_config_reloads_total", outcome="ok"): 1,
        key("siger_x", service="s", state="idle"): 2.5,
        **{key("siger_local_replies_total", reason=reason): 1 for reason in REASONS},
    }
    assert {name: found.get(name) for name in expected} == expected
    total = found[key("siger_http_request_duration_seconds_sum", route="r")]
    assert total == pytest.approx(101.503)
    assert found[key("process_open_fds")] >= 3
    assert found[key("process_cpu_seconds_total")] > 0
    assert found[key("process_start_time_seconds")] > 1.7e9


def test_both_formats_hold_the_same_figures() -> None:
    metrics = busy()
    own = [
        {name: value for name, value in figures(metrics, accept).items() if "siger" in name[0]}
        for accept in ("", OPENMETRICS)
    ]
    assert own[0] == own[1]


def test_a_gateway_that_has_seen_nothing_is_readable() -> None:
    for accept in ("", OPENMETRICS):
        assert figures(Metrics(), accept)[key("siger_http_requests_in_flight")] == 0


@pytest.mark.parametrize(
    "accept",
    [
        "*/*",
        "application/openmetrics-text; version=abc",
        "application/openmetrics-text;version=",
        "application/openmetrics-text;version=1.0.0;escaping=nonsense",
        "application/openmetrics-text;version",
        "text/plain;version=\xff",
        "text/plain;version=9.9.9.9",
        ";,=;,",
        2000 * "text/plain;q=0.1,",
    ],
)
def test_no_accept_field_keeps_prometheus_from_its_figures(accept: str) -> None:
    body, content_type = busy().render(accept)
    assert b"siger_http_requests_total" in body
    assert content_type.split(";")[0] in ("text/plain", "application/openmetrics-text")


def test_the_format_is_the_one_that_was_asked_for() -> None:
    assert Metrics().render(OPENMETRICS)[1].startswith("application/openmetrics-text; version=1.0")
    assert Metrics().render(OPENMETRICS)[0].endswith(b"# EOF\n")
    assert Metrics().render("text/plain")[1].startswith("text/plain; version=0.0.4")


def test_odd_names_do_not_break_the_exposition() -> None:
    metrics = Metrics()
    for name in ('a"b', "a\\b", "a\nb", "\xe4\u20ac", ""):
        metrics.routes[name].requests[b"M-SEARCH", 200] += 1
        for accept in ("", OPENMETRICS):
            found = figures(metrics, accept)
            labels = {"route": name, "method": "M-SEARCH", "code": "200"}
            assert found[key("siger_http_requests_total", **labels)] == 1


@pytest.mark.parametrize("bound", DURATION_BOUNDS)
def test_a_bucket_holds_its_upper_bound(bound: float) -> None:
    histogram = Histogram()
    histogram.observe(bound)
    histogram.observe(bound * 1.0001)
    assert dict(histogram.buckets())[str(bound)] == 1
    assert histogram.buckets()[-1] == ("+Inf", 2)
    assert histogram.total == pytest.approx(2.0001 * bound)


def test_the_types_of_jobs_make_a_bounded_number_of_series() -> None:
    metrics = Metrics()
    for _ in range(2):
        for number in range(10 * MAX_JOB_TYPES):
            metrics.job_submitted(f"type{number}")
    assert len(metrics.jobs_submitted) == MAX_JOB_TYPES + 1
    assert metrics.jobs_submitted["type0"] == 2
    assert metrics.jobs_submitted["other"] == 2 * 9 * MAX_JOB_TYPES
    assert sum(metrics.jobs_submitted.values()) == 20 * MAX_JOB_TYPES
    series = [name for name, _ in figures(metrics) if name == "siger_jobs_submitted_total"]
    assert len(series) == MAX_JOB_TYPES + 1


def test_a_gauge_is_read_at_each_scrape_and_replaced_by_name() -> None:
    metrics = Metrics()
    values = iter([1.0, 2.0])
    metrics.gauge("siger_x", "X.", (), lambda: [((), next(values))])
    assert figures(metrics)[key("siger_x")] == 1
    assert figures(metrics)[key("siger_x")] == 2
    metrics.gauge("siger_x", "X.", ("a",), lambda: [(("1",), 7.0), (("2",), 8.0)])
    found = figures(metrics)
    assert key("siger_x") not in found
    assert (found[key("siger_x", a="1")], found[key("siger_x", a="2")]) == (7, 8)


def test_two_gateways_in_one_process_count_for_themselves() -> None:
    one, other = Metrics(), Metrics()
    one.local_replies["no_route"] += 1
    assert key("siger_local_replies_total", reason="no_route") in figures(one)
    assert key("siger_local_replies_total", reason="no_route") not in figures(other)
