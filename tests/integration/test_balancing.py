"""Load balancing through a real gateway process: which service gets which requests."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.conftest import Serve, Services
from tests.running import BOUND, RunningGateway, Served, Upstream, answer_ok, eventually


def balanced(service: str, *upstreams: Upstream, rest: str = "") -> str:
    addresses = ", ".join(f'"{upstream.address}"' for upstream in upstreams)
    return (
        'consul_address: ""\nnats_address: ""\n'
        f"services: {{s: {{endpoints: [{addresses}], {service}}}}}\n"
        f"routes: [{{name: r, match: {{path_prefix: /}}, service: s}}]\n{rest}"
    )


TRUSTING = 'trusted_proxies: ["127.0.0.0/8"]\n'


def asks(hash_on: str, user: int) -> tuple[str, list[str]]:
    """The path and fields of a request with key ``user``."""
    return {
        "path": (f"/u{user}?x=1", []),
        "client_ip": ("/", [f"X-Forwarded-For: 9.9.9.{user}"]),
        "header:X-User": ("/", [f"x-user: u{user}"]),
        "cookie:sid": ("/", [f"Cookie: a=b; sid=u{user}; c=d"]),
    }[hash_on]


async def placed(gateway: RunningGateway, hash_on: str) -> list[bytes]:
    """Which service answers each of 30 users; checked to be the same three times."""
    rounds = []
    async with gateway.connect() as client:
        for _ in range(3):
            one = []
            for user in range(30):
                path, fields = asks(hash_on, user)
                one.append((await client.request(f"GET {path}", *fields)).body)
            rounds.append(one)
    assert rounds[0] == rounds[1] == rounds[2]
    return rounds[0]


@pytest.mark.parametrize("hash_on", ["path", "client_ip", "header:X-User", "cookie:sid"])
async def test_requests_with_the_same_key_go_to_the_same_endpoint(
    serve: Serve, services: Services, hash_on: str
) -> None:
    upstreams = await services(answer_ok, answer_ok, answer_ok)
    hashing = f'balance: consistent_hash, hash_on: "{hash_on}"'
    gateway = await serve(balanced(hashing, *upstreams, rest=TRUSTING))
    assert len(set(await placed(gateway, hash_on))) == 3


async def test_gateways_agree_on_the_endpoint_of_a_key_whatever_order_they_know(
    serve: Serve, services: Services
) -> None:
    upstreams = await services(answer_ok, answer_ok, answer_ok)
    hashing = "balance: consistent_hash, hash_on: 'cookie:sid'"
    one = await serve(balanced(hashing, *upstreams))
    other = await serve(balanced(hashing, *reversed(upstreams)))
    assert await placed(one, "cookie:sid") == await placed(other, "cookie:sid")


async def test_keys_of_a_dead_endpoint_go_to_others_and_only_these(
    serve: Serve, services: Services
) -> None:
    upstreams = await services(answer_ok, answer_ok, answer_ok)
    hashing = "balance: consistent_hash, hash_on: 'header:X-User'"
    gateway = await serve(balanced(hashing, *upstreams))
    before = await placed(gateway, "header:X-User")
    await upstreams[0].stop()
    after = await placed(gateway, "header:X-User")  # each by a retry, to the same one every time
    dead = b"%d" % upstreams[0].port
    assert dead in before
    assert dead not in after
    assert all(old in (new, dead) for old, new in zip(before, after, strict=True))


async def test_requests_without_the_key_are_spread(serve: Serve, services: Services) -> None:
    upstreams = await services(answer_ok, answer_ok, answer_ok)
    hashing = "balance: consistent_hash, hash_on: 'header:X-User'"
    gateway = await serve(balanced(hashing, *upstreams))
    async with gateway.connect() as client:
        seen = Counter([(await client.request("GET /")).body for _ in range(60)])
    assert len(seen) == 3


@pytest.mark.parametrize("policy", ["p2c", "ewma"])
async def test_all_endpoints_are_used(serve: Serve, services: Services, policy: str) -> None:
    upstreams = await services(answer_ok, answer_ok, answer_ok)
    gateway = await serve(balanced(f"balance: {policy}", *upstreams))
    async with gateway.connect() as client:
        seen = Counter([(await client.request("GET /")).body for _ in range(90)])
    assert len(seen) == 3


async def hold(held: Upstream, gateway: RunningGateway) -> asyncio.Task[object]:
    """A request that ``held`` has and does not answer."""
    while True:
        task = asyncio.create_task(gateway.get("/"))

        async def arrived(task: asyncio.Task[object] = task) -> bool:
            return bool(held.served) or task.done()

        await eventually(arrived)
        if held.served:
            return task


@pytest.mark.parametrize("policy", ["p2c", "ewma"])
async def test_an_endpoint_that_is_busy_is_left_alone(
    serve: Serve, services: Services, policy: str
) -> None:
    release = asyncio.Event()

    async def stuck(upstream: Upstream, served: Served) -> None:
        await release.wait()
        await served.ok(b"stuck")

    held, free = await services(stuck, answer_ok)
    gateway = await serve(balanced(f"balance: {policy}", held, free))
    task = await hold(held, gateway)
    async with gateway.connect() as client:
        for _ in range(30):
            assert (await client.request("GET /")).body == b"%d" % free.port
    release.set()
    async with asyncio.timeout(BOUND):
        await task


async def test_ewma_steers_away_from_an_endpoint_that_was_slow(
    serve: Serve, services: Services
) -> None:
    release = asyncio.Event()

    async def slow_once(upstream: Upstream, served: Served) -> None:
        await release.wait()
        await served.ok(b"slow")

    slow, fast = await services(slow_once, answer_ok)
    gateway = await serve(balanced("balance: ewma", slow, fast))
    task = await hold(slow, gateway)
    async with gateway.connect() as client:
        for _ in range(150):  # one answer of the slow one takes as long as 150 of the other
            await client.request("GET /")
        release.set()
        async with asyncio.timeout(BOUND):
            await task
        # From now on it is as fast as the other, which nobody knows. Its share would be half.
        seen = Counter([(await client.request("GET /")).body for _ in range(100)])
    assert seen[b"slow"] < 25


async def test_ewma_does_not_take_refusals_for_quick_answers(
    serve: Serve, services: Services
) -> None:
    async def overloaded(upstream: Upstream, served: Served) -> None:
        await served.send(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")

    bad, good = await services(overloaded, answer_ok)
    gateway = await serve(balanced("balance: ewma", bad, good))
    async with gateway.connect() as client:
        seen = Counter([(await client.request("GET /")).status for _ in range(60)])
    assert seen[503] < 15
