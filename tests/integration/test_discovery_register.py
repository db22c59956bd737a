"""The gateway's own registration, with a real Consul agent."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tornado.httputil import HTTPServerRequest

from siger_gateway.config.schema import RegisterConfig
from siger_gateway.discovery.register import Probe, Registrar
from tests.consul_server import ConsulServer
from tests.discovery_watch import Answer, FakeAgent, eventually, open_sockets

CONFIG = RegisterConfig(name="edge", tags=("eu", "https"))


@pytest.fixture
def consul() -> Iterator[ConsulServer]:
    with ConsulServer() as server:
        yield server


@asynccontextmanager
async def registrar(
    address: str, config: RegisterConfig = CONFIG, token: str = "", probe: Probe = "http"
) -> AsyncIterator[Registrar]:
    registrar = Registrar(address, token, config, 8080, probe=probe, renew_interval=0.05)
    registrar.start()
    try:
        yield registrar
    finally:
        await registrar.close()


def taking(told: list[dict[str, Any]]) -> Callable[[HTTPServerRequest], Answer]:
    """An agent at 10.0.0.1 that takes every registration, and notes it in ``told``."""

    def agent(request: HTTPServerRequest) -> Answer:
        if request.path == "/v1/agent/service/register":
            told.append(json.loads(request.body))
        return 200, {}, '{"Member": {"Addr": "10.0.0.1"}}' if "self" in request.path else ""

    return agent


def registered(consul: ConsulServer, name: str = "edge") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = consul.call("GET", f"/v1/health/service/{name}")
    return found


async def test_the_gateway_appears_at_once_and_passing(consul: ConsulServer) -> None:
    async with registrar(consul.address) as one:
        await eventually(lambda: registered(consul), "the registration")
        service = registered(consul)[0]["Service"]
        assert service["ID"] == one.service_id == f"edge-{socket.gethostname()}-8080"
        assert (service["Address"], service["Port"]) == ("127.0.0.1", 8080)
        assert service["Tags"] == ["eu", "https"]
        checks = registered(consul)[0]["Checks"]
        assert [(one["Type"], one["Status"]) for one in checks if one["ServiceID"]] == [
            ("http", "passing")
        ]


@pytest.mark.parametrize(
    ("probe", "meta", "check"),
    [
        ("http", {}, {"http": "http://[fd00::1]:8080/health/ready"}),
        (
            "https",
            {"protocol": "https"},
            {"http": "https://[fd00::1]:8080/health/ready", "TLSSkipVerify": True},
        ),
        ("tcp", {"protocol": "https"}, {"tcp": "[fd00::1]:8080"}),
    ],
)
async def test_a_gateway_with_tls_says_so_and_is_asked_in_a_way_that_works(
    probe: Probe, meta: dict[str, str], check: dict[str, Any]
) -> None:
    told: list[dict[str, Any]] = []
    config = RegisterConfig(name="edge", address="fd00::1")
    async with FakeAgent(taking(told)) as fake, registrar(fake.address, config, probe=probe):
        await eventually(lambda: told, "the registration")
    assert told[0].get("meta", {}) == meta
    (found,) = told[0]["checks"]
    assert {
        name: found[name] for name in ("http", "tcp", "TLSSkipVerify") if name in found
    } == check
    assert found["status"] == "passing"


async def test_consul_asks_in_another_way_when_a_reload_makes_that_necessary() -> None:
    told: list[dict[str, Any]] = []
    config = RegisterConfig(name="edge", address="10.0.0.1")
    async with (
        FakeAgent(taking(told)) as fake,
        registrar(fake.address, config, probe="https") as kept,
    ):
        await eventually(lambda: told, "the registration")
        kept.ask_by("tcp")
        await eventually(lambda: len(told) > 1, "another one")
    assert [sorted(one["checks"][0].keys() & {"http", "tcp"}) for one in told] == [
        ["http"],
        ["tcp"],
    ]


@pytest.mark.parametrize(
    ("configured", "address", "port", "url"),
    [
        ("", "10.0.0.1", 8080, "http://10.0.0.1:8080/health/ready"),  # what the agent advertises
        ("gw.internal", "gw.internal", 8080, "http://gw.internal:8080/health/ready"),
        ("192.0.2.1:80", "192.0.2.1", 80, "http://192.0.2.1:80/health/ready"),
        ("fd00::1", "fd00::1", 8080, "http://[fd00::1]:8080/health/ready"),
        ("[fd00::1]:80", "fd00::1", 80, "http://[fd00::1]:80/health/ready"),
    ],
)
async def test_what_is_registered(configured: str, address: str, port: int, url: str) -> None:
    told: list[dict[str, Any]] = []
    config = RegisterConfig(name="edge", address=configured)
    async with FakeAgent(taking(told)) as fake, registrar(fake.address, config):
        await eventually(lambda: told, "the registration")
    assert (told[0]["address"], told[0]["port"]) == (address, port)
    assert told[0]["checks"] == [
        {
            "http": url,
            "interval": "10s",
            "timeout": "2s",
            "DeregisterCriticalServiceAfter": "10m",
            "status": "passing",
        }
    ]


async def test_it_waits_for_consul_and_survives_its_restart(consul: ConsulServer) -> None:
    consul.kill()
    async with registrar(consul.address) as one:
        await consul.start_soon()
        await eventually(lambda: registered(consul), "the registration")
        consul.kill()
        await consul.start_soon()  # a dev agent forgets everything
        await eventually(lambda: registered(consul), "the second registration")
        assert one.registered


async def test_it_is_registered_again_when_somebody_removed_it(consul: ConsulServer) -> None:
    async with registrar(consul.address) as one:
        await eventually(lambda: registered(consul), "the registration")
        consul.deregister(one.service_id)
        await eventually(lambda: registered(consul), "the second registration")


async def test_deregistering_is_final(consul: ConsulServer) -> None:
    sockets = open_sockets()
    async with registrar(consul.address) as one:
        await eventually(lambda: registered(consul), "the registration")
        await one.deregister()
        await eventually(lambda: not registered(consul), "the end")
        one.start()
        assert one._task is None
        assert not one.registered
    await eventually(lambda: open_sockets() == sockets, "all closed")


async def test_deregistering_from_a_consul_that_hangs_takes_two_seconds_at_most(
    consul: ConsulServer,
) -> None:
    async with registrar(consul.address) as one:
        await eventually(lambda: one.registered, "the registration")
        consul.pause()
        began = asyncio.get_running_loop().time()
        await one.deregister()
        assert asyncio.get_running_loop().time() - began < 2.5
        consul.resume()


async def test_a_consul_that_is_gone_does_not_delay_the_end(consul: ConsulServer) -> None:
    async with registrar(consul.address) as one:
        await eventually(lambda: one.registered, "the registration")
        consul.kill()
        began = asyncio.get_running_loop().time()
        await one.deregister()
        assert asyncio.get_running_loop().time() - began < 1.0


async def test_a_registration_on_its_way_is_waited_for_so_that_it_cannot_arrive_last() -> None:
    arrived, answer_it = asyncio.Event(), asyncio.Event()
    done: list[str] = []

    async def slow_registration(request: HTTPServerRequest) -> Answer:
        if request.path == "/v1/agent/service/register":
            arrived.set()
            await answer_it.wait()
        done.append(request.path)
        return 200, {}, '{"Member": {"Addr": "10.0.0.1"}}' if "self" in request.path else ""

    async with (
        FakeAgent(slow_registration) as agent,
        registrar(agent.address, token="s3cret") as one,
    ):
        await arrived.wait()
        leaving = asyncio.create_task(one.deregister())
        asyncio.get_running_loop().call_later(0.1, answer_it.set)
        await leaving
        assert done == [
            "/v1/agent/self",
            "/v1/agent/service/register",
            f"/v1/agent/service/deregister/{one.service_id}",
        ]
        for request in agent.requests:
            assert request.headers["X-Consul-Token"] == "s3cret"
            assert "s3cret" not in request.uri


async def test_without_permission_to_ask_the_agent_the_loopback_has_to_do() -> None:
    rules = 'acl { enabled = true default_policy = "deny" tokens { master = "let-me-in" } }'
    with ConsulServer(rules, token="let-me-in") as guarded:
        policy = {"Name": "edge", "Rules": 'service_prefix "" { policy = "write" }'}
        guarded.call("PUT", "/v1/acl/policy", policy)
        token = guarded.call("PUT", "/v1/acl/token", {"Policies": [{"Name": "edge"}]})
        async with registrar(guarded.address, token=token["SecretID"]):
            await eventually(lambda: registered(guarded), "the registration")
            assert registered(guarded)[0]["Service"]["Address"] == "127.0.0.1"
