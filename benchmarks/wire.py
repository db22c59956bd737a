"""One proxied request without its sockets: what the gateway's own code costs.

``python -m benchmarks.wire``: the bytes of the load's requests go into a real gateway's connection,
the service's answer into the one that it took for it, and what both write is thrown away. What is
left out are the event loop and the kernel, so the figure hardly depends on what else the machine
does; it is for comparing two versions of the code, or two ways to write something.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import json
import pstats
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, time
from typing import Any

import uvloop

from benchmarks.servers import BODY, SECRET, tokens
from siger_gateway.config.load import loads
from siger_gateway.gateway import Gateway
from siger_gateway.http1.client import UpstreamConnection

VARIANTS = 64
"""Different requests, as in requests.lua."""
REQUESTS = 256
"""Of one run: as many as two flushes of the access log."""

RESPONSE = (
    b"HTTP/1.1 200 OK\r\n"
    b"Server: nginx/1.27.4\r\n"
    b"Date: Mon, 23 Nov 2026 12:00:00 GMT\r\n"
    b"Content-Type: application/json\r\n"
    b"Content-Length: %d\r\n"
    b"Connection: keep-alive\r\n"
    b"Cache-Control: private, max-age=0\r\n"
    b'ETag: "5f2b8c6d1e90"\r\n'
    b"Vary: Accept-Encoding\r\n\r\n%b" % (len(BODY), BODY.encode())
)


class Wire:
    """A transport whose other end is nobody."""

    def __init__(self) -> None:
        self.written = 0
        self.last = b""

    def write(self, data: bytes) -> None:
        self.written += 1
        self.last = data

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 40000) if name == "peername" else default

    def set_write_buffer_limits(self, high: int) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None: ...

    def close(self) -> None: ...


def requests() -> list[bytes]:
    """As the load sends them."""
    shown = tokens(time())
    return [
        (
            f"GET /api/v1/users/{1000 + i}?page={i}&sort=name HTTP/1.1\r\n"
            "Host: api.example.com\r\n"
            "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
            "Chrome/126.0.0.0 Safari/537.36\r\n"
            "Accept: application/json, text/plain, */*\r\n"
            "Accept-Encoding: gzip, deflate, br, zstd\r\n"
            "Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n"
            f"Authorization: Bearer {shown[i % len(shown)]}\r\n"
            "Cookie: session=4f1c9a7d2e8b4c56a0d3; theme=dark; consent=1\r\n"
            "Referer: https://app.example.com/users?page=1\r\n"
            "Cache-Control: no-cache\r\n"
            f"X-Request-ID: 0190a5f2-7c4e-7b1a-9d3e-{i:012x}\r\n"
            "X-Client-Version: web/4.18.2\r\n\r\n"
        ).encode()
        for i in range(1, VARIANTS + 1)
    ]


def configuration(policies: bool, log: Path) -> str:
    """As benchmarks/servers.py has it."""
    policy = {"requests": 10**9, "per": "1s", "key": "user"}
    route = {
        "name": "users",
        "match": {"path_prefix": "/api/v1/users"},
        "service": "users",
        **({"auth": "required", "rate_limit": policy} if policies else {}),
    }
    return json.dumps(
        {
            "consul_address": "",
            "nats_address": "",
            "data_dir": "",
            "access_log": {"path": str(log) if policies else ""},
            "admin": {"port": ""},
            "auth": {"jwt": {"secret": SECRET, "issuer": "dante"}},
            "services": {"users": {"endpoints": ["127.0.0.1:1", "127.0.0.1:2"]}},
            "routes": [route],
        }
    )


def turn(gateway: Gateway) -> Callable[[int], None]:
    """What proxies so many requests, each from its first byte to the end of the answer."""
    client = gateway._listener._accept()
    answer = Wire()
    client.connection_made(answer)  # type: ignore[arg-type]
    services: dict[UpstreamConnection, Wire] = {}
    for endpoint in gateway._clusters["users"].endpoints:
        connection = UpstreamConnection(endpoint.pool)
        wire = services[connection] = Wire()
        connection.connection_made(wire)  # type: ignore[arg-type]
        endpoint.pool._open += 1
        endpoint.pool.release(connection)
    sent = requests()
    # Round robin: by turns.
    first, second = [(one.data_received, wire) for one, wire in services.items()]
    receive = client.data_received

    def run(count: int) -> None:
        for number in range(count):
            receive(sent[number % VARIANTS])
            taken = first if first[1].written else second
            taken[1].written = 0
            taken[0](RESPONSE)

    run(VARIANTS)
    assert answer.written == VARIANTS, "not every request was answered"
    assert answer.last.startswith(b"HTTP/1.1 200 "), answer.last
    return run


async def measure(policies: bool, runs: int, profile: str) -> None:
    """Prints the best of ``runs``, or the profile of one."""
    with tempfile.TemporaryDirectory() as scratch:
        gateway = Gateway(loads(configuration(policies, Path(scratch, "access.log"))).config)
        run = turn(gateway)
        gc.collect()
        gc.freeze()
        label = "with policies" if policies else "bare"
        if profile:
            profiler = cProfile.Profile()
            profiler.runcall(run, REQUESTS)
            pstats.Stats(profiler).sort_stats("tottime").print_stats(35)
        else:
            best = float("inf")
            for _ in range(runs):
                began = perf_counter()
                run(REQUESTS)
                best = min(best, perf_counter() - began)
            print(f"{label:14} {best / REQUESTS * 1e6:6.2f} µs a request, best of {runs} runs")
        await gateway.close()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wire", description=__doc__)
    parser.add_argument("--runs", type=int, default=400, help="the best of them counts")
    parser.add_argument("--profile", action="store_true", help="where the time goes (cProfile)")
    options = parser.parse_args()
    for policies in (False, True):
        uvloop.run(measure(policies, options.runs, options.profile))


if __name__ == "__main__":
    main()
