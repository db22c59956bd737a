"""Counters as plain integers, rendered for Prometheus only when it asks.

The hot path does ``stats.requests[key] += 1`` and one ``bisect``; prometheus-client, whose
``labels().inc()`` takes a lock and costs microseconds, is called at scrape time alone, through
the custom collector at the end of this file. Label values are names from the configuration
(routes, services, reasons), never paths: a series per UUID would be the end of any Prometheus.
"""

from __future__ import annotations

import os
import resource
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder

from siger_gateway import __version__

DURATION_BOUNDS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""Upper bounds in seconds: Prometheus' defaults, and 1 ms and up to 60 s for a proxy's range."""

MAX_JOB_TYPES: Final = 100
"""Job types come from clients: beyond this many, the label says ``other``."""


MAX_GRPC_METHODS: Final = 500
"""The same for methods of gRPC."""
_OTHER_METHOD: Final = ("other", "other")


class Histogram:
    """Observations in seconds, counted by ``DURATION_BOUNDS``."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(DURATION_BOUNDS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(DURATION_BOUNDS, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative ``(upper bound, count)`` pairs, as Prometheus wants them."""
        pairs, seen = [], 0
        for bound, count in zip((*map(str, DURATION_BOUNDS), "+Inf"), self.counts, strict=True):
            seen += count
            pairs.append((bound, float(seen)))
        return pairs


class RouteStats:
    """What was answered on one route. ``requests`` is keyed by ``(method, status)``."""

    __slots__ = ("duration", "requests")

    def __init__(self) -> None:
        self.requests: defaultdict[tuple[bytes, int], int] = defaultdict(int)
        self.duration = Histogram()


class ServiceStats:
    """What one service did. ``outcomes`` is keyed by status class (``2xx``) or by reason."""

    __slots__ = ("duration", "outcomes", "retries")

    def __init__(self) -> None:
        self.outcomes: defaultdict[str, int] = defaultdict(int)
        self.retries: defaultdict[str, int] = defaultdict(int)
        self.duration = Histogram()


class GrpcCalls:
    """Calls by service, method and code. Methods come from clients, so only those get a series that
    a service knows, and not more than ``MAX_GRPC_METHODS`` of them."""

    __slots__ = ("_names", "counts")

    def __init__(self) -> None:
        self.counts: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        self._names: dict[bytes, tuple[str, str]] = {}

    def count(self, path: bytes, code: str, *, answered: bool) -> None:
        """A call of ``path``, ``/package.Service/Method``, has ended with the code of this name.

        :param answered: by a service, not by the gateway in its place.
        """
        names = self._names.get(path)
        if names is None:
            names = self._learn(path, code) if answered else _OTHER_METHOD
        self.counts[names[0], names[1], code] += 1

    def _learn(self, path: bytes, code: str) -> tuple[str, str]:
        if code == "UNIMPLEMENTED" or len(self._names) >= MAX_GRPC_METHODS:
            return _OTHER_METHOD
        service, _, method = path[1:].decode("latin-1").rpartition("/")
        names = self._names[path] = (service, method)
        return names


Samples = Iterable[tuple[tuple[str, ...], float]]
"""Label values and the figure, for each series of a gauge."""


class Metrics:
    """All figures of one gateway; it outlives reloads, so counters never go backwards."""

    def __init__(self) -> None:
        self.routes: defaultdict[str, RouteStats] = defaultdict(RouteStats)
        self.services: defaultdict[str, ServiceStats] = defaultdict(ServiceStats)
        self.grpc = GrpcCalls()
        self.in_flight = 0
        self.local_replies: defaultdict[str, int] = defaultdict(int)
        self.jobs_submitted: defaultdict[str, int] = defaultdict(int)
        self.job_events: defaultdict[str, int] = defaultdict(int)
        self.job_publish = Histogram()
        self.config_reloads: defaultdict[str, int] = defaultdict(int)
        self.tls_handshakes: defaultdict[str, int] = defaultdict(int)
        self._gauges: dict[str, tuple[str, tuple[str, ...], Callable[[], Samples]]] = {}
        self._counters: dict[str, tuple[str, str, dict[str, int]]] = {}
        self._started = time.time()
        self._registry = CollectorRegistry()
        self._registry.register(_Collector(self))

    def gauge(
        self, name: str, doc: str, labels: tuple[str, ...], read: Callable[[], Samples]
    ) -> None:
        """Registers a gauge that is read at scrape time; the same name again replaces it."""
        self._gauges[name] = (doc, labels, read)

    def counter(self, name: str, doc: str, label: str, counts: dict[str, int]) -> None:
        """Registers counts that their owner goes on adding to, keyed by the value of ``label``."""
        self._counters[name] = (doc, label, counts)

    def job_submitted(self, job_type: str) -> None:
        """Counts a stored job; the number of types that get a series of their own is bounded."""
        if job_type not in self.jobs_submitted and len(self.jobs_submitted) >= MAX_JOB_TYPES:
            job_type = "other"
        self.jobs_submitted[job_type] += 1

    def render(self, accept: str) -> tuple[bytes, str]:
        """The exposition for an ``Accept`` value: body and content type (OpenMetrics or text)."""
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # a version that is no number
            encode, content_type = choose_encoder("")
        return encode(self._registry), content_type

    def collect(self) -> Iterator[Metric]:
        """Every family, made from the plain figures."""
        requests = CounterMetricFamily(
            "siger_http_requests", "Exchanges by final status.", labels=("route", "method", "code")
        )
        durations = HistogramMetricFamily(
            "siger_http_request_duration_seconds", "From request head to end.", labels=("route",)
        )
        for name, route in list(self.routes.items()):
            for (method, status), count in list(route.requests.items()):
                requests.add_metric((name, method.decode(), str(status)), count)
            durations.add_metric((name,), route.duration.buckets(), route.duration.total)
        upstream = CounterMetricFamily(
            "siger_upstream_requests", "Attempts by outcome.", labels=("service", "outcome")
        )
        upstream_durations = HistogramMetricFamily(
            "siger_upstream_request_duration_seconds", "Attempt to head.", labels=("service",)
        )
        retries = CounterMetricFamily(
            "siger_retries", "Attempts after the first.", labels=("service", "reason")
        )
        for name, service in list(self.services.items()):
            for outcome, count in list(service.outcomes.items()):
                upstream.add_metric((name, outcome), count)
            for reason, count in list(service.retries.items()):
                retries.add_metric((name, reason), count)
            upstream_durations.add_metric(
                (name,), service.duration.buckets(), service.duration.total
            )
        yield from (requests, durations, upstream, upstream_durations, retries)
        calls = CounterMetricFamily(
            "siger_grpc_calls", "gRPC calls.", labels=("grpc_service", "grpc_method", "grpc_code")
        )
        for names, count in list(self.grpc.counts.items()):
            calls.add_metric(names, count)
        yield calls
        yield _gauge("siger_http_requests_in_flight", "Exchanges now open.", self.in_flight)
        yield _counter(
            "siger_local_replies", "Replies by the gateway.", "reason", self.local_replies
        )
        yield _counter("siger_jobs_submitted", "Jobs stored.", "type", self.jobs_submitted)
        yield _counter("siger_job_events", "Job status events seen.", "status", self.job_events)
        yield _counter("siger_config_reloads", "Reloads.", "outcome", self.config_reloads)
        yield _counter(
            "siger_tls_handshakes", "Handshakes with clients.", "outcome", self.tls_handshakes
        )
        publish = HistogramMetricFamily(
            "siger_job_publish_duration_seconds", "Publish to PubAck.", labels=()
        )
        publish.add_metric((), self.job_publish.buckets(), self.job_publish.total)
        yield publish
        for name, (doc, labels, read) in list(self._gauges.items()):
            family = GaugeMetricFamily(name, doc, labels=labels)
            for values, figure in read():
                family.add_metric(values, figure)
            yield family
        for name, (doc, label, counts) in list(self._counters.items()):
            yield _counter(name, doc, label, counts)
        build = GaugeMetricFamily("siger_build_info", "Version.", labels=("version",))
        build.add_metric((__version__,), 1)
        yield build
        yield from self._process()

    def _process(self) -> Iterator[Metric]:
        """The ``process_*`` families; prometheus-client's own collector re-reads what we know."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        cpu = CounterMetricFamily("process_cpu_seconds", "User and system CPU time.")
        cpu.add_metric((), usage.ru_utime + usage.ru_stime)
        yield cpu
        yield _gauge("process_start_time_seconds", "Start, Unix time.", self._started)
        try:
            with open("/proc/self/statm", encoding="ascii") as statm:
                resident = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            open_fds = len(os.listdir("/proc/self/fd"))
        except OSError:  # not Linux
            resident, open_fds = usage.ru_maxrss, 0
        yield _gauge("process_resident_memory_bytes", "Resident memory.", resident)
        yield _gauge("process_open_fds", "Open file descriptors.", open_fds)
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        yield _gauge("process_max_fds", "Limit of file descriptors.", limit)


def _gauge(name: str, doc: str, figure: float) -> Metric:
    family = GaugeMetricFamily(name, doc)
    family.add_metric((), figure)
    return family


def _counter(name: str, doc: str, label: str, counts: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, doc, labels=(label,))
    for value, count in list(counts.items()):
        family.add_metric((value,), count)
    return family


class _Collector:
    """What prometheus-client's registry asks; ``describe`` keeps it from a scrape at start."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return self._metrics.collect()

    def describe(self) -> Iterable[Metric]:
        return ()
