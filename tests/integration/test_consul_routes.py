"""Routes that services carry in their Consul tags: a real gateway, a real agent."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Serve, Services
from tests.consul_server import ConsulServer
from tests.running import Answer, RunningGateway, answer_ok, eventually


@pytest.fixture
def consul() -> Iterator[ConsulServer]:
    with ConsulServer() as server:
        yield server


def config(consul: ConsulServer, rest: str = "") -> str:
    return f'consul_address: "{consul.address}"\nnats_address: ""\n{rest}'


async def register(
    consul: ConsulServer, name: str, service_id: str, port: int, *tags: str, status: str = "passing"
) -> None:
    found = [f"siger.{tag}" for tag in tags]
    await asyncio.to_thread(
        consul.register, name, service_id, port=port, tags=["v1", *found], status=status
    )


async def until(gateway: RunningGateway, path: str, status: int, reason: str = "") -> Answer:
    """Asks for ``path`` until the answer has this status and reason."""

    async def look() -> Answer | None:
        answer = await gateway.get(path)
        if answer.status != status or (reason and answer.json["reason"] != reason):
            return None
        return answer

    answer: Answer = await eventually(look)
    return answer


async def tag_problem(gateway: RunningGateway, service: str) -> list[str]:
    """What was logged about the tags of a service, once there is anything."""

    async def look() -> list[str]:
        return [
            line["reason"]
            for line in gateway.lines
            if line["message"] == "tags in Consul are not used" and line["service"] == service
        ]

    found: list[str] = await eventually(look)
    return found


async def test_registering_a_service_is_all_that_adding_it_takes(
    serve: Serve, services: Services, consul: ConsulServer
) -> None:
    (upstream,) = await services(answer_ok)
    gateway = await serve(config(consul))
    assert (await gateway.get("/api/v1/users/7")).status == 404
    await register(
        consul,
        "users",
        "users-1",
        upstream.port,
        "path_prefix=/api/v1/users",
        "strip_prefix=/api/v1",
        "path=/people/{id}",
        "methods=GET,POST",
    )
    answer = await until(gateway, "/api/v1/users/7?x=%2F", 200)
    assert answer.body == str(upstream.port).encode()
    assert upstream.served[-1].line == "GET /users/7?x=%2F HTTP/1.1"
    assert (await gateway.request("DELETE /api/v1/users/7")).status == 404
    # The other path does not begin with what is stripped, and costs this one nothing.
    assert (await gateway.get("/people/7")).status == 404
    assert await tag_problem(gateway, "users") == [
        "/people/{id}: /api/v1 is not how /people/{id} begins, in whole segments"
    ]
    line = await gateway.access(answer.headers["x-request-id"])
    assert (line["route"], line["service"]) == ("consul/users", "users")


async def test_a_route_follows_the_tags_and_leaves_with_the_last_of_them(
    serve: Serve, services: Services, consul: ConsulServer
) -> None:
    old, new = await services(answer_ok, answer_ok)
    gateway = await serve(config(consul))
    await register(consul, "users", "users-1", old.port, "path_prefix=/old")
    await until(gateway, "/old", 200)
    # A rollout: the new instance brings another path; both paths lead to both instances.
    await register(consul, "users", "users-2", new.port, "path_prefix=/new")
    await until(gateway, "/new", 200)
    assert (await gateway.get("/old")).status == 200
    await asyncio.to_thread(consul.deregister, "users-1")
    await until(gateway, "/old", 404, "no_route")
    assert (await gateway.get("/new")).body == str(new.port).encode()
    # It still is registered, and failing: the route stays and says so.
    await asyncio.to_thread(consul.set_status, "users-2", "critical")
    await until(gateway, "/new", 503, "no_endpoints")
    await asyncio.to_thread(consul.deregister, "users-2")
    await until(gateway, "/new", 404, "no_route")


async def test_what_is_not_understood_is_never_opened(
    serve: Serve, services: Services, consul: ConsulServer
) -> None:
    (upstream,) = await services(answer_ok)
    gateway = await serve(config(consul))
    await register(consul, "a", "a-1", upstream.port, "path_prefix=/a", "auth=required")
    await register(consul, "b", "b-1", upstream.port, "path_prefix=/b", "rate_limit=5")
    await register(consul, "c", "c-1", upstream.port, "path_prefix=/c", "timeout=soon")
    await register(consul, "d", "d-1", upstream.port, "path_prefix=/d", "auth=none")
    for path in ("/c", "/d"):
        await until(gateway, path, 200)
    for name, word in (("a", "nobody could show who it is"), ("b", "unknown")):
        problems = await tag_problem(gateway, name)
        assert word in problems[0]
        assert problems[1:] == ["none of its routes is used"]
        assert (await gateway.get(f"/{name}")).json["reason"] == "no_route"
    assert "expected a duration" in (await tag_problem(gateway, "c"))[0]
    # Corrected, it works at once; an instance that asks for protection closes it again at once.
    await register(consul, "a", "a-1", upstream.port, "path_prefix=/a")
    await until(gateway, "/a", 200)
    await register(consul, "a", "a-2", upstream.port, "path_prefix=/a", "auth=required")
    await until(gateway, "/a", 404, "no_route")
    # Said once for each time that it was wrong, however often the table was built.
    assert len(await tag_problem(gateway, "b")) == 2


async def test_the_file_and_the_gateways_own_endpoints_stay_theirs(
    serve: Serve, services: Services, consul: ConsulServer
) -> None:
    mine, theirs = await services(answer_ok, answer_ok)
    gateway = await serve(
        config(
            consul,
            f'services: {{mine: {{endpoints: ["{mine.address}"]}}}}\n'
            "routes:\n- {name: m, match: {path_prefix: /m}, service: mine}\n"
            "- {name: t, match: {path: '/t/{x}'}, service: mine}\n",
        )
    )
    await register(
        consul,
        "mine",
        "mine-1",
        theirs.port,
        *("path_prefix=/ok", "path_prefix=/m", "path=/t/{y}", "path=/health", "path=/metrics"),
        *("path_prefix=/api/v1/jobs", "path=/api/{v}/jobs/{id}", "path=/openapi.json"),
        *("path=/{a}/{b}", "path_prefix=/m/deeper"),
    )
    await until(gateway, "/ok", 200)
    for path, owner in (
        ("/m", mine),
        ("/m/x", mine),
        ("/t/1", mine),
        ("/m/deeper", theirs),  # a longer match is another path
        ("/ok", theirs),  # not the service that the file calls "mine"
    ):
        assert (await gateway.get(path)).body == str(owner.port).encode(), path
    assert (await gateway.get("/health")).headers["content-type"] == "application/health+json"
    assert (await gateway.get("/metrics")).headers["content-type"].startswith("text/plain")
    assert (await gateway.get("/api/v1/jobs/x")).json["reason"] == "jobs_disabled"
    assert len(await tag_problem(gateway, "mine")) == 8
    before = len(gateway.lines)
    await gateway.reload()
    problems = [one for one in gateway.lines[before:] if "tags in Consul" in one["message"]]
    assert not problems  # they have been said


async def test_a_predicate_does_not_take_a_path_of_the_file_away(
    serve: Serve, services: Services, consul: ConsulServer
) -> None:
    mine, theirs = await services(answer_ok, answer_ok)
    gateway = await serve(
        config(
            consul,
            f'services: {{mine: {{endpoints: ["{mine.address}"]}}}}\n'
            "routes:\n- {name: m, match: {path_prefix: /m}, service: mine}\n"
            "- {name: p, match: {path_prefix: /p, methods: [PUT]}, service: mine}\n",
        )
    )
    await register(consul, "users", "u", theirs.port, "path_prefix=/m", "host=gateway.test")
    await register(consul, "puts", "p", theirs.port, "path_prefix=/p")
    await until(gateway, "/p", 200)
    assert (await gateway.get("/p")).body == str(theirs.port).encode()
    assert (await gateway.request("PUT /p", body=b"x")).body == str(mine.port).encode()
    assert (await gateway.get("/m")).body == str(mine.port).encode()


async def test_routes_outlive_consul_and_a_cold_start_without_it(
    serve: Serve, services: Services, consul: ConsulServer
) -> None:
    (upstream,) = await services(answer_ok)
    gateway = await serve(config(consul))
    await register(consul, "users", "users-1", upstream.port, "path_prefix=/u", "timeout=7s")
    await until(gateway, "/u", 200)
    snapshot = gateway.folder / "data" / "discovery.json"

    async def saved() -> bool:
        known: dict[str, Any] = json.loads(snapshot.read_text()) if snapshot.exists() else {}
        return "users" in known.get("tags", ()) and bool(known["services"].get("users"))

    await eventually(saved)
    await asyncio.to_thread(consul.kill)
    await gateway.line("consul does not answer as it should; the last tables stay")
    assert (await gateway.get("/u")).status == 200
    await gateway.stop()
    await gateway.start()
    assert (await gateway.get("/u")).status == 200
    command = [sys.executable, "-m", "siger_gateway", "routes", "--config"]
    shown = await asyncio.to_thread(
        subprocess.check_output, [*command, str(gateway.config_path)], timeout=30
    )
    (row,) = [
        line.split() for line in shown.decode().splitlines() if line.startswith("consul/users")
    ]
    assert row == ["consul/users", "/u/*", "users", "-", "-", "7s", "consul"]
    # An agent that has forgotten everything takes nothing away at once.
    await consul.start_soon()
    await gateway.line("no instance is registered; keeping the table")
    assert (await gateway.get("/u")).status == 200


async def test_tags_are_left_alone_when_they_are_switched_off(
    serve: Serve, services: Services, consul: ConsulServer
) -> None:
    (upstream,) = await services(answer_ok)
    await register(consul, "users", "users-1", upstream.port, "path_prefix=/u")
    gateway = await serve(config(consul, 'consul_routes: false\nexpose_services: ["*"]\n'))
    await until(gateway, "/services/users/x", 200)
    assert (await gateway.get("/u")).status == 404


async def test_all_services_can_be_exposed_by_a_reload(
    serve: Serve, services: Services, consul: ConsulServer
) -> None:
    (upstream,) = await services(answer_ok)
    await register(consul, "users", "users-1", upstream.port)
    gateway = await serve(config(consul, "consul_routes: false\n"))
    assert (await gateway.get("/services/users/x")).status == 404
    gateway.write_config(config(consul, 'consul_routes: false\nexpose_services: ["*"]\n'))
    assert (await gateway.reload())["message"] == "reloaded"
    await until(gateway, "/services/users/x", 200)
