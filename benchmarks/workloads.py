"""What the contenders of benchmarks/compare.py are loaded with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import time

from benchmarks.contenders.contender import Duty
from benchmarks.load import Wrk
from benchmarks.servers import tokens
from benchmarks.websocket_load import MESSAGE_SIZE


@dataclass(frozen=True, slots=True)
class Workload:
    """What the load asks for. ``{n}`` in the path becomes one of 64 numbers."""

    name: str
    title: str
    duty: Duty = Duty.PLAIN
    path: str = "/api/v1/users/{n}?page=1&sort=name"
    method: str = "GET"
    body: int = 0
    """Bytes of each request's body."""
    answer: int = 0
    """Bytes of each response's body, where throughput is of interest."""
    close: bool = False
    """Every request comes on a connection of its own."""
    connections: int = 64
    least_seconds: int = 1
    """Of a round, and of the warm-up before the first one."""

    @property
    def scheme(self) -> str:
        """Of the URLs that are asked for."""
        return "https" if self.duty is Duty.TLS else "http"

    def environment(self, wrk: Wrk) -> Wrk:
        """``wrk`` with what workload.lua reads."""
        more = {
            "SIGER_BENCH_METHOD": self.method,
            "SIGER_BENCH_PATH": self.path,
            "SIGER_BENCH_BODY": str(self.body),
            "SIGER_BENCH_CLOSE": "1" if self.close else "0",
            "SIGER_BENCH_TOKENS": " ".join(tokens(time())),
        }
        return replace(wrk, environment={**wrk.environment, **more})


WORKLOADS = (
    Workload("small", "Small GET: 11 header fields, an answer of 200 bytes"),
    Workload("policies", "The same with a token, a rate limit and an access log", Duty.POLICIES),
    Workload("16k", "Answers of 16 KiB", path="/files/16k?n={n}", answer=16 << 10),
    Workload("1m", "Answers of 1 MiB", path="/files/1m?n={n}", answer=1 << 20),
    Workload("post", "POST of 64 KiB", method="POST", body=64 << 10),
    Workload("close", "A connection for each request", close=True),
    Workload("tls", "Small GET over TLS 1.3, kept connections", Duty.TLS),
    Workload("tls-close", "A TLS 1.3 connection for each request", Duty.TLS, close=True),
    Workload("websocket", f"WebSocket messages of {MESSAGE_SIZE} bytes, echoed", Duty.WEBSOCKET),
    Workload("1000", "1,000 connections", connections=1000),
    Workload("10000", "10,000 connections", connections=10_000, least_seconds=6),
)
