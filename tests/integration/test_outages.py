"""What a gateway does when what it leans on dies: NATS, Consul, itself. Real ones are killed."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import Iterator

import nats
import pytest

from tests.conftest import Serve, Services
from tests.consul_server import ConsulServer
from tests.nats_server import NatsServer
from tests.running import RunningGateway, Served, Upstream, answer_ok, eventually

JSON = "Content-Type: application/json"
SUBMITTERS = 8
SUBMISSIONS = 400


@pytest.fixture
def nats_server() -> Iterator[NatsServer]:
    with NatsServer() as server:
        yield server


@pytest.fixture
def consul() -> Iterator[ConsulServer]:
    with ConsulServer() as server:
        yield server


def with_jobs(server: NatsServer) -> str:
    return f'consul_address: ""\nnats_address: "{server.address}"\n'


async def connected(gateway: RunningGateway) -> None:
    async def look() -> bool:
        return await gateway.metric("siger_nats_connected") == 1

    await eventually(look)


async def stored_jobs(server: NatsServer) -> Counter[str]:
    """How often each job id stands in the stream."""
    client = await nats.connect(server.address)
    try:
        stream = client.jetstream()
        subscription = await stream.subscribe("jobs.submit.>", ordered_consumer=True)
        count = (await stream.stream_info("jobs")).state.messages
        messages = [await subscription.next_msg(5) for _ in range(count)]
        return Counter(json.loads(message.data)["job_id"] for message in messages)
    finally:
        await client.close()


async def test_a_job_survives_the_gateway_that_accepted_it(
    serve: Serve, nats_server: NatsServer
) -> None:
    gateway = await serve(with_jobs(nats_server))
    await connected(gateway)
    body = b'{"type": "t", "name": "n"}'
    answer = await gateway.request("POST /api/v1/jobs", JSON, body=body)
    assert answer.status == 202
    gateway.send(signal.SIGKILL)
    await gateway.wait()
    again = await serve(with_jobs(nats_server))
    await connected(again)
    found = await again.get(answer.headers["location"])
    assert (found.status, found.json["status"]) == (200, "queued")
    assert found.json["job_id"] == answer.json["job_id"]


async def test_every_job_answered_202_is_stored_exactly_once_when_nats_is_killed(
    serve: Serve, nats_server: NatsServer
) -> None:
    gateway = await serve(with_jobs(nats_server))
    await connected(gateway)
    accepted: list[str] = []
    refused: Counter[str] = Counter()
    sent = 0

    async def submit(number: int) -> None:
        """Repeats every job with its key until it is accepted, as a careful client does."""
        nonlocal sent
        while sent < SUBMISSIONS:
            sent += 1
            key = f"Idempotency-Key: key-{sent}"
            body = b'{"type": "t", "name": "%d"}' % sent

            async def accepts(key: str = key, body: bytes = body) -> str | None:
                answer = await gateway.request("POST /api/v1/jobs", JSON, key, body=body)
                if answer.status == 202:
                    return str(answer.json["job_id"])
                assert answer.status == 503
                assert "retry-after" in answer.headers
                refused[answer.json["reason"]] += 1
                return None

            accepted.append(await eventually(accepts, 30))

    async def kill_and_restart() -> None:
        async def half_way() -> bool:
            return len(accepted) > SUBMISSIONS // 3

        await eventually(half_way)
        nats_server.kill()

        async def noticed() -> bool:
            return bool(refused)

        await eventually(noticed)
        await nats_server.start_soon()

    await asyncio.gather(kill_and_restart(), *map(submit, range(SUBMITTERS)))
    assert len(set(accepted)) == len(accepted) >= SUBMISSIONS
    assert refused
    stored = await stored_jobs(nats_server)
    assert set(accepted) <= set(stored)
    assert set(stored.values()) == {1}


async def test_without_nats_the_gateway_proxies_and_says_why_it_takes_no_jobs(
    serve: Serve, services: Services, nats_server: NatsServer
) -> None:
    nats_server.stop()
    (upstream,) = await services(answer_ok)
    gateway = await serve(
        with_jobs(nats_server) + f'services: {{s: {{endpoints: ["{upstream.address}"]}}}}\n'
        "routes: [{name: r, match: {path_prefix: /x}, service: s}]\n"
    )
    assert (await gateway.get("/x")).status == 200
    answer = await gateway.request("POST /api/v1/jobs", JSON, body=b'{"type": "t", "name": "n"}')
    assert (answer.status, answer.json["reason"]) == (503, "queue_unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    health = await gateway.get("/health")
    assert (health.status, health.json["status"]) == (200, "warn")
    await nats_server.start_soon()
    await connected(gateway)
    answer = await gateway.request("POST /api/v1/jobs", JSON, body=b'{"type": "t", "name": "n"}')
    assert answer.status == 202


async def test_traffic_follows_consul_and_outlives_it(
    serve: Serve, services: Services, consul: ConsulServer
) -> None:
    async def who(upstream: Upstream, served: Served) -> None:
        await served.ok(b"%d" % upstream.port)

    upstreams = await services(who, who, who)
    for number, upstream in enumerate(upstreams):
        check = {"HTTP": f"http://{upstream.address}/health", "Interval": "300ms", "Timeout": "1s"}
        definition = {"Name": "user-service", "ID": f"u{number}", "Port": upstream.port}
        definition |= {"Check": check, "Address": ""}
        await asyncio.to_thread(consul.call, "PUT", "/v1/agent/service/register", definition)
    config = (
        f'consul_address: "{consul.address}"\nnats_address: ""\n'
        "services: {users: {consul: user-service}}\n"
        "routes: [{name: users, match: {path_prefix: /u}, service: users}]\n"
    )
    gateway = await serve(config)
    available = 'siger_upstream_endpoints{service="users",state="available"}'

    async def endpoints(count: int) -> None:
        async def look() -> bool:
            return await gateway.metric(available) == count

        await eventually(look)

    async def answering() -> set[bytes]:
        answers = await asyncio.gather(*(gateway.get("/u") for _ in range(30)))
        assert {answer.status for answer in answers} == {200}
        return {answer.body for answer in answers}

    await endpoints(3)
    assert len(await answering()) == 3

    dead = upstreams.pop()
    await dead.stop()
    assert b"%d" % dead.port not in await answering()  # before Consul knows: by retries
    await endpoints(2)
    attempts = 'siger_upstream_requests_total{outcome="connect_refused",service="users"}'
    before = await gateway.metric(attempts)
    assert len(await answering()) == 2
    assert await gateway.metric(attempts) == before  # nothing was even tried there

    await asyncio.to_thread(consul.kill)
    await gateway.line("consul does not answer as it should; the last tables stay")
    assert len(await answering()) == 2

    gateway.send(signal.SIGTERM)
    assert await gateway.wait() == 0
    await gateway.start()  # cold, without Consul
    assert len(await answering()) == 2


async def test_the_gateway_registers_itself_and_leaves_before_it_drains(
    serve: Serve, services: Services, consul: ConsulServer
) -> None:
    async def never(upstream: Upstream, served: Served) -> None:
        await served.reader.read()

    (upstream,) = await services(never)
    gateway = await serve(
        f'consul_address: "{consul.address}"\nnats_address: ""\n'
        f'services: {{s: {{endpoints: ["{upstream.address}"]}}}}\n'
        "routes: [{name: r, match: {path_prefix: /}, service: s}]\n"
    )

    async def entry() -> dict[str, object] | None:
        known = await asyncio.to_thread(consul.call, "GET", "/v1/agent/services")
        found: dict[str, dict[str, object]] = known
        return next((one for one in found.values() if one["Service"] == "siger-gateway"), None)

    registered = await eventually(entry)
    assert (registered["Address"], registered["Port"]) == ("127.0.0.1", gateway.port)

    async def passing() -> bool:
        checks = await asyncio.to_thread(consul.call, "GET", "/v1/agent/checks")
        return any(
            check["ServiceName"] == "siger-gateway" and check["Status"] == "passing"
            for check in checks.values()
        )

    await eventually(passing)
    async with gateway.connect() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        gateway.send(signal.SIGTERM)
        await gateway.line("draining")

        async def gone() -> bool:
            return await entry() is None

        await eventually(gone)
        assert gateway.process is not None
        assert gateway.process.returncode is None  # the request is still in flight
        gateway.send(signal.SIGTERM)
        await gateway.wait()
