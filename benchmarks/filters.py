"""What the parts of a request's filters cost, each alone: ``python -m benchmarks.filters``.

Every figure is the best of several runs, in microseconds for one call; loading is in milliseconds.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from time import perf_counter
from timeit import repeat
from typing import Any

from siger_gateway.config.policies import SecurityHeadersConfig
from siger_gateway.filters.access import access_filter
from siger_gateway.filters.api_keys import ApiKeys, hash_of, new_key
from siger_gateway.filters.filter import Call
from siger_gateway.filters.forward_auth import ForwardAuth
from siger_gateway.filters.headers import add_missing, security_headers
from siger_gateway.filters.networks import Networks, address_of
from siger_gateway.http.headers import Headers
from siger_gateway.http.message import Request
from siger_gateway.telemetry.redact import redact_target

NO_STREAM: Any = None  # this filter looks at the address alone
CALLS = 5000
KEYS = 1000


def show(label: str, call: Callable[[], object], calls: int = CALLS) -> None:
    best = min(repeat(call, number=calls, repeat=7)) / calls
    print(f"{label:40} {best * 1e6:8.2f} us")


def api_keys(folder: str) -> None:
    file = Path(folder, "keys.yaml")
    file.touch(0o600)
    key = new_key()
    entries = [(0, key), *((number, new_key()) for number in range(1, KEYS))]
    file.write_text(
        "keys:\n"
        + "".join(
            f"  - {{id: k{number}, hash: '{hash_of(one)}', user: u{number}, roles: [admin]}}\n"
            for number, one in entries
        )
    )
    started = perf_counter()
    keys = ApiKeys(str(file))
    print(f"{f'{KEYS} API keys, loaded':40} {(perf_counter() - started) * 1e3:8.0f} ms")
    presented = key.encode()
    show("identify", lambda: keys.identify(presented, 0.0))
    moments = count(1, 2)
    show("look at the file", lambda: keys.look(float(next(moments))))


def access() -> None:
    call = Call(Request(b"GET", b"/", [], True), "10.1.2.3", b"http", NO_STREAM)
    judge = access_filter(["10.0.0.0/8", "fd00::/8"], ["10.9.0.0/16"])
    show("access, client that is known", lambda: judge(call))
    numbers = count()

    def new_client() -> None:
        number = next(numbers)
        call.client = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        judge(call)

    show("access, new client", new_client)
    networks = Networks(f"10.{number}.0.0/16" for number in range(100))
    address = address_of("192.0.2.1")
    assert address is not None
    show("one address in 100 networks", lambda: address in networks)


@dataclass
class Said:
    """What a service answers that is asked who somebody is."""

    status: int
    fields: dict[bytes, bytes] = field(default_factory=lambda: {b"x-user": b"alice"})


async def forward_auth() -> None:
    """With the 11 header fields of a browser, of which the service is shown two."""
    shown = [(b"authorization", b"Bearer " + b"x" * 200), (b"cookie", b"session=" + b"y" * 40)]
    sent = [(b"host", b"api.test"), *shown, *((b"x-%d" % number, b"value") for number in range(8))]
    target = b"/api/v1/users/1001?page=1&sort=name"
    call = Call(Request(b"GET", target, sent, True), "192.0.2.1", b"https", NO_STREAM)
    for label, status in (("allowed", 200), ("refused", 401)):

        async def ask(question: Headers, status: int = status) -> Said:
            return Said(status)

        names = (b"authorization", b"cookie", b"x-api-key")
        auth = ForwardAuth(ask, names, b"x-user", b"x-roles", cache=60.0)
        await auth.identify(call, 0.0)  # type: ignore[misc]
        show(f"forward auth, remembered, {label}", partial(auth.identify, call, 1.0))


def headers() -> None:
    sent: Headers = [(b"x-%d" % number, b"value") for number in range(12)]
    fields = security_headers(SecurityHeadersConfig()).https
    show("security fields on 12 headers", lambda: add_missing(list(sent), fields))


def redaction() -> None:
    for label, target in {
        "without a query": b"/api/v1/users/123",
        "without a secret": b"/api/v1/users?page=2&limit=50&sort=name",
        "with a secret": b"/api/v1/users?page=2&access_token=abcdefg&sort=name",
        "of the oddest kind": b"/?" + b"%25%253D" * 250 + b"&key=x",
    }.items():
        show(f"target {label}", partial(redact_target, target), CALLS // 10)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        api_keys(scratch)
    access()
    asyncio.run(forward_auth())
    headers()
    redaction()
