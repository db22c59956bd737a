"""The watcher against a real Consul agent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from siger_gateway.config.schema import EndpointSpec
from tests.consul_server import ConsulServer
from tests.discovery_watch import Watch, eventually, open_sockets

ONE, TWO, THREE = "127.0.0.1:9001", "127.0.0.1:9002", "127.0.0.1:9003"


@pytest.fixture
def consul() -> Iterator[ConsulServer]:
    with ConsulServer() as server:
        yield server


def register_three(consul: ConsulServer) -> None:
    for number in (1, 2, 3):
        consul.register("users", f"users-{number}", port=9000 + number)


async def test_instances_come_and_go_with_their_checks(consul: ConsulServer) -> None:
    register_three(consul)
    async with Watch(consul.address, "users") as watch:
        await watch.until(ONE, TWO, THREE)
        consul.set_status("users-2", "critical")
        await watch.until(ONE, THREE)
        consul.set_status("users-3", "warning")
        await watch.until(ONE)
        consul.set_status("users-2", "passing")
        await watch.until(ONE, TWO)
        consul.deregister("users-1")
        await watch.until(TWO)
        consul.register("users", "users-4", port=9004)
        await watch.until(TWO, "127.0.0.1:9004")


async def test_a_service_that_nobody_registered_has_an_empty_table(consul: ConsulServer) -> None:
    async with Watch(consul.address, "users") as watch:
        await watch.until()
        consul.register("users", "users-1", port=9001)
        await watch.until(ONE)


async def test_an_empty_service_address_means_the_nodes(consul: ConsulServer) -> None:
    consul.register("users", "users-1", port=9001, address="")
    async with Watch(consul.address, "users") as watch:
        await watch.until(ONE)


async def test_weights_are_taken_over(consul: ConsulServer) -> None:
    consul.register("users", "users-1", port=9001, weight=5)
    async with Watch(consul.address, "users") as watch:
        await eventually(
            lambda: watch.history == [("users", (EndpointSpec(ONE, 5),))], "the weight"
        )


async def test_the_gateway_does_not_find_itself(consul: ConsulServer) -> None:
    register_three(consul)
    watch = Watch(consul.address, "users")
    watch.watcher.exclude("users-2")
    async with watch:
        await watch.until(ONE, THREE)


async def test_when_all_instances_fail_the_table_is_empty_without_delay(
    consul: ConsulServer,
) -> None:
    register_three(consul)
    async with Watch(consul.address, "users", empty_grace=3600) as watch:
        await watch.until(ONE, TWO, THREE)
        for number in (1, 2, 3):
            consul.set_status(f"users-{number}", "critical")
        await watch.until()


async def test_when_nothing_is_registered_any_more_the_table_stays_for_the_grace(
    consul: ConsulServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    consul.register("users", "users-1", port=9001)
    loop = asyncio.get_running_loop()
    async with Watch(consul.address, "users", empty_grace=1.0) as watch:
        await watch.until(ONE)
        consul.deregister("users-1")
        gone = loop.time()
        await watch.until()
        assert loop.time() - gone >= 1.0
    messages = [one.message for one in caplog.records if "discovery" in one.name]
    assert messages == [
        "endpoints changed",
        "no instance is registered; keeping the table",
        "endpoints changed",
    ]


async def test_killed_consul_leaves_the_table_and_its_age_grows(
    consul: ConsulServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    register_three(consul)
    async with Watch(consul.address, "users", resync_interval=0.2) as watch:
        await watch.until(ONE, TWO, THREE)
        consul.kill()
        await eventually(lambda: watch.watcher.age > 1.5, "the age grows")
        assert (watch.sample() or 0.0) > 1.5
        assert len(watch.history) == 1
    failures = [one for one in caplog.records if "does not answer" in one.message]
    assert 1 <= len({one.fields["error"] for one in failures}) == len(failures) <= 2  # type: ignore[attr-defined]


async def test_a_consul_that_forgot_everything_takes_nothing_away(
    consul: ConsulServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The index of the new agent is lower: waiting for the old one would be in vain."""
    for _ in range(5):
        register_three(consul)
    consul.set_status("users-1", "critical")
    consul.set_status("users-1", "passing")
    async with Watch(consul.address, "users", empty_grace=60) as watch:
        await watch.until(ONE, TWO, THREE)
        before = watch.watcher._services["users"]._index
        consul.kill()
        await consul.start_soon()
        await eventually(lambda: "keeping the table" in caplog.text, "the empty answer is doubted")
        assert watch.watcher._services["users"]._index < before
        assert len(watch.history) == 1
        register_three(consul)
        consul.deregister("users-2")
        await watch.until(ONE, THREE)
        assert all(endpoints for _, endpoints in watch.history)
        assert watch.watcher.age < 5


async def test_a_hung_consul_leaves_the_table(consul: ConsulServer) -> None:
    consul.register("users", "users-1", port=9001)
    async with Watch(consul.address, "users", resync_interval=0.2) as watch:
        await watch.until(ONE)
        consul.pause()
        try:
            await eventually(lambda: watch.watcher.age > 1.0, "the age grows")
        finally:
            consul.resume()
        consul.register("users", "users-2", port=9002)
        await watch.until(ONE, TWO)


async def test_a_query_that_blocks_for_longer_than_five_seconds_is_no_failure(
    consul: ConsulServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The first gateway gave up after 5 s, and its table flapped."""
    caplog.set_level(logging.INFO)
    consul.register("users", "users-1", port=9001)
    async with Watch(consul.address, "users", wait=6.0, resync_interval=3600) as watch:
        await watch.until(ONE)
        await eventually(lambda: watch.watcher.age > 5.5, "the query blocks")
        await eventually(lambda: watch.watcher.age < 0.5, "the query is answered")
        assert len(watch.history) == 1
    discovery = [one.message for one in caplog.records if "discovery" in one.name]
    assert discovery == ["endpoints changed"]


async def test_services_are_watched_and_forgotten_as_told(consul: ConsulServer) -> None:
    register_three(consul)
    consul.register("orders", "orders-1", port=9101)
    async with Watch(consul.address, "users") as watch:
        await watch.until(ONE, TWO, THREE)
        watch.watcher.set_services({"users", "orders"})
        await watch.until("127.0.0.1:9101", service="orders")
        watch.watcher.set_services({"orders"})
        consul.deregister("users-1")
        consul.deregister("orders-1")
        consul.register("orders", "orders-2", port=9102)
        await watch.until("127.0.0.1:9102", service="orders")
        assert watch.table("users") == [ONE, TWO, THREE]
        watch.watcher.set_services({"users", "orders"})
        await watch.until(TWO, THREE)


async def test_all_services_are_seen_as_they_come_and_go(consul: ConsulServer) -> None:
    async with Watch(consul.address, all_names=True, empty_grace=0.2) as watch:
        await eventually(lambda: watch.names == [("consul",)], "the names")
        consul.register("users", "users-1", port=9001)
        consul.register("bad/name", "bad-1", port=9001)
        await watch.until(ONE)
        assert watch.names[-1] == ("consul", "users")
        consul.deregister("users-1")
        await eventually(lambda: watch.names[-1] == ("consul",), "the name leaves")
        assert watch.table() == []


async def test_tags_about_routes_are_those_of_all_instances_and_stay_as_long_as_the_table(
    consul: ConsulServer,
) -> None:
    one, two = "siger.path=/one", "siger.path=/two"
    async with Watch(consul.address, all_names=True, empty_grace=1.0) as watch:

        def tags() -> tuple[str, ...] | None:
            return watch.catalogs[-1].get("users") if watch.catalogs else None

        consul.register("users", "users-1", port=9001, tags=("v1", one))
        await eventually(lambda: tags() == (one,), "the tag")
        consul.register("users", "users-2", port=9002, status="critical", tags=(two, one))
        await eventually(lambda: tags() == (one, two), "both tags")
        consul.deregister("users-2")
        await eventually(lambda: tags() == (one,), "the tag leaves with its instance")
        await watch.until(ONE)
        consul.deregister("users-1")
        await eventually(lambda: tags() is None, "the service leaves")
        assert watch.table() == []  # and not before
        assert all("users" in catalog for catalog in watch.catalogs[2:-1])


async def test_a_consul_that_forgot_everything_does_not_take_the_names_away_either(
    consul: ConsulServer, caplog: pytest.LogCaptureFixture
) -> None:
    register_three(consul)
    async with Watch(consul.address, all_names=True) as watch:
        await watch.until(ONE, TWO, THREE)
        consul.kill()
        await consul.start_soon()
        await eventually(lambda: "keeping the table" in caplog.text, "the empty answer is doubted")
        consul.register("orders", "orders-1", port=9101)
        await watch.until("127.0.0.1:9101", service="orders")
        assert watch.names[-1] == ("consul", "orders", "users")
        assert watch.table() == [ONE, TWO, THREE]


async def test_many_services_are_watched_with_two_queries(consul: ConsulServer) -> None:
    names = [f"service-{number}" for number in range(40)]
    for number, name in enumerate(names):
        consul.register(name, f"{name}-1", port=9100 + number)
    async with Watch(consul.address, *names, max_blocking=5, resync_interval=3600) as watch:
        await eventually(lambda: all(watch.table(name) for name in names), "all tables")
        assert open_sockets() < 25
        consul.set_status("service-7-1", "critical")
        await watch.until(service="service-7")
        consul.register("service-7", "service-7-2", port=9001)
        await watch.until(ONE, service="service-7")
        consul.deregister("service-8-1")
        consul.register("service-8", "service-8-2", port=9002)
        await watch.until(TWO, service="service-8")
        published = [name for name, _ in watch.history]
        assert {name for name in names if published.count(name) > 1} == {"service-7", "service-8"}


async def test_among_many_services_what_no_check_tells_is_found_by_the_resync(
    consul: ConsulServer,
) -> None:
    register_three(consul)
    consul.register("orders", "orders-1", port=9101)
    async with Watch(
        consul.address, "users", "orders", max_blocking=1, resync_interval=0.5
    ) as watch:
        await watch.until(ONE, TWO, THREE)
        consul.call("PUT", "/v1/agent/service/register", {"Name": "users", "ID": "u", "Port": 8})
        await watch.until("127.0.0.1:8", ONE, TWO, THREE)


async def test_among_many_services_a_registration_brings_the_resync_forward(
    consul: ConsulServer,
) -> None:
    register_three(consul)
    consul.register("orders", "orders-1", port=9101)
    async with Watch(
        consul.address, "orders", "users", max_blocking=1, resync_interval=3600
    ) as watch:
        await watch.until(ONE, TWO, THREE)
        await watch.until("127.0.0.1:9101", service="orders")
        consul.call("PUT", "/v1/agent/service/register", {"Name": "orders", "ID": "o", "Port": 8})
        await watch.until("127.0.0.1:8", "127.0.0.1:9101", service="orders")


async def test_among_many_services_a_restart_of_consul_is_survived(
    consul: ConsulServer, caplog: pytest.LogCaptureFixture
) -> None:
    register_three(consul)
    consul.register("orders", "orders-1", port=9101)
    async with Watch(consul.address, "users", "orders", max_blocking=1) as watch:
        await watch.until(ONE, TWO, THREE)
        await watch.until("127.0.0.1:9101", service="orders")
        consul.kill()
        await consul.start_soon()
        await eventually(lambda: caplog.text.count("keeping the table") == 2, "doubts")
        consul.register("users", "users-1", port=9001)
        await watch.until(ONE)
        assert watch.table("orders") == ["127.0.0.1:9101"]


async def test_few_may_become_many_and_few_again(consul: ConsulServer) -> None:
    register_three(consul)
    consul.register("orders", "orders-1", port=9101)
    async with Watch(consul.address, "users", max_blocking=1) as watch:
        await watch.until(ONE, TWO, THREE)
        watch.watcher.set_services({"users", "orders"})
        await watch.until("127.0.0.1:9101", service="orders")
        consul.set_status("users-1", "critical")
        await watch.until(TWO, THREE)
        watch.watcher.set_services({"users"})
        consul.set_status("users-2", "critical")
        await watch.until(THREE)


async def test_a_cold_start_without_consul_uses_the_snapshot(
    consul: ConsulServer, tmp_path: Path
) -> None:
    path = tmp_path / "discovery.json"
    register_three(consul)
    async with Watch(consul.address, snapshot=path, all_names=True) as watch:
        await watch.until(ONE, TWO, THREE)
    consul.kill()
    async with Watch(consul.address, snapshot=path, all_names=True) as watch:
        assert watch.names == [("consul", "users")]  # at once: start() has published them
        assert watch.table() == [ONE, TWO, THREE]
        assert watch.sample("snapshot") is not None
        await consul.start_soon()
        consul.register("users", "users-9", port=9009)
        await watch.until("127.0.0.1:9009")
    async with Watch(consul.address, "users", snapshot=path) as watch:
        assert watch.table() == ["127.0.0.1:9009"]


async def test_services_of_the_configuration_start_from_the_snapshot_too(
    consul: ConsulServer, tmp_path: Path
) -> None:
    path = tmp_path / "discovery.json"
    register_three(consul)
    async with Watch(consul.address, "users", "orders", snapshot=path) as watch:
        await watch.until(ONE, TWO, THREE)
    consul.kill()
    async with Watch(consul.address, "orders", snapshot=path) as watch:
        assert watch.table() is None
        watch.watcher.set_services({"users"})  # a reload brings it back
        assert watch.table() == [ONE, TWO, THREE]


ACL = 'acl { enabled = true default_policy = "deny" tokens { master = "let-me-in" } }'


async def test_without_a_valid_token_the_table_stays_for_the_grace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Consul answers with an empty list then, not with an error."""
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "of the environment")
    path = tmp_path / "discovery.json"
    with ConsulServer(ACL, token="let-me-in") as consul:
        consul.register("users", "users-1", port=9001)
        async with Watch(consul.address, "users", token="let-me-in", snapshot=path) as watch:
            await watch.until(ONE)
        monkeypatch.delenv("CONSUL_HTTP_TOKEN")
        async with Watch(consul.address, "users", snapshot=path, resync_interval=0.2) as watch:
            await eventually(lambda: "keeping the table" in caplog.text, "doubt")
            assert watch.table() == [ONE]


async def test_closing_leaves_no_task_and_no_socket(consul: ConsulServer) -> None:
    register_three(consul)
    sockets, tasks = open_sockets(), asyncio.all_tasks()
    async with Watch(consul.address, all_names=True) as watch:
        await watch.until(ONE, TWO, THREE)
        assert open_sockets() > sockets
    await eventually(lambda: open_sockets() == sockets, "all closed")
    assert asyncio.all_tasks() == tasks


async def test_closing_while_consul_hangs_does_not_wait_for_it(consul: ConsulServer) -> None:
    consul.register("users", "users-1", port=9001)
    watch = Watch(consul.address, "users", resync_interval=0.1)
    async with watch:
        await watch.until(ONE)
        consul.pause()
        await eventually(lambda: watch.watcher.age > 0.3, "queries hang")
        began = asyncio.get_running_loop().time()
        await watch.watcher.close()
        assert asyncio.get_running_loop().time() - began < 1.0
        consul.resume()
