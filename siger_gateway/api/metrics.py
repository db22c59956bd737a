"""``/metrics``: the figures for Prometheus, in the format that its ``Accept`` asks for."""

from __future__ import annotations

from siger_gateway.api.handler import ApiHandler
from siger_gateway.telemetry.metrics import Metrics


class MetricsHandler(ApiHandler):
    def initialize(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def get(self) -> None:
        body, content_type = self._metrics.render(self.request.headers.get("Accept", ""))
        self.set_header("Content-Type", content_type)
        self.finish(body)
