"""The watcher against an agent that misbehaves."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from tornado.httputil import HTTPServerRequest

from tests.discovery_watch import Answer, FakeAgent, Watch, eventually


def instance(port: int, service_id: str = "users-1", status: str = "passing") -> dict[str, Any]:
    return {
        "Node": {"Node": "vm", "Address": "127.0.0.1"},
        "Service": {"ID": service_id, "Service": "users", "Address": "", "Port": port},
        "Checks": [{"CheckID": "c", "Status": status}],
    }


def good(*instances: dict[str, Any], index: int = 10, **headers: str) -> Answer:
    return 200, {"X-Consul-Index": str(index), **headers}, json.dumps(instances)


def blocks(request: HTTPServerRequest) -> bool:
    return "index" in request.arguments


async def for_ever() -> Answer:
    """The answer of a blocking query while nothing happens."""
    await asyncio.Event().wait()
    raise AssertionError


GOOD = good(instance(9001))
EMPTY_BODY = 200, {"X-Consul-Index": "11"}, ""


@pytest.mark.parametrize(
    "fault",
    [
        (500, {}, "No cluster leader"),
        (503, {"X-Consul-Index": "11"}, "[]"),
        (403, {}, "Permission denied"),
        (429, {}, "Your IP is issuing too many concurrent connections"),
        (404, {"X-Consul-Index": "11"}, ""),
        (200, {"X-Consul-Index": "11"}, '[{"Node": '),
        (200, {"X-Consul-Index": "11"}, "<html>captive portal</html>"),
        (200, {"X-Consul-Index": "11"}, "null"),
        (200, {"X-Consul-Index": "11"}, "{}"),
        (200, {"X-Consul-Index": "11"}, '[{"Node": 1, "Service": 2}]'),
        (200, {"X-Consul-Index": "11"}, "[" * 100_000),
        (200, {"X-Consul-Index": "soon"}, "[]"),
        (200, {}, "[]"),
    ],
    ids=str,
)
async def test_an_answer_that_is_no_answer_changes_nothing_and_is_logged_once(
    fault: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with (
        FakeAgent(lambda _: GOOD) as agent,
        Watch(agent.address, "users", resync_interval=0.1) as watch,
    ):
        await watch.until("127.0.0.1:9001")
        seen = len(agent.requests)
        agent.answer = lambda _: fault
        await eventually(lambda: len(agent.requests) > seen + 5, "retries")
        assert len(watch.history) == 1
        agent.answer = lambda _: good(instance(9002), index=12)
        await watch.until("127.0.0.1:9002")
        await eventually(lambda: "answers again" in caplog.text, "the log")
    discovery = [one for one in caplog.records if "discovery" in one.name]
    assert [one.message for one in discovery].count("consul answers again") == 1
    failures = [one for one in discovery if "does not answer" in one.message]
    assert len(failures) == 1
    assert not failures[0].exc_info


async def test_the_resync_heals_an_event_that_was_missed() -> None:
    """Blocking queries are never answered: only what does not block tells the news."""
    async with (
        FakeAgent(lambda request: for_ever() if blocks(request) else GOOD) as agent,
        Watch(agent.address, "users", resync_interval=0.2) as watch,
    ):
        await watch.until("127.0.0.1:9001")
        later = good(instance(9002), index=12)
        agent.answer = lambda request: for_ever() if blocks(request) else later
        await watch.until("127.0.0.1:9002")


async def test_a_lower_index_is_asked_for_again_before_it_is_believed() -> None:
    answers = [good(instance(9001), index=50), good(instance(9000), index=40)]

    def answer(request: HTTPServerRequest) -> Any:
        if answers:
            return answers.pop(0)
        return for_ever() if blocks(request) else good(instance(9002), index=51)

    async with (
        FakeAgent(answer) as agent,
        Watch(agent.address, "users", resync_interval=3600) as watch,
    ):
        await watch.until("127.0.0.1:9002")
        assert "127.0.0.1:9000" not in [one.address for _, table in watch.history for one in table]
        asked = [one.arguments.get("index") for one in agent.requests[:3]]
        assert asked == [None, [b"50"], None]


async def test_an_empty_answer_that_a_second_look_denies_is_ignored() -> None:
    def answer(request: HTTPServerRequest) -> Answer:
        if "passing" in request.arguments and len(agent.requests) > 1:
            return good(index=11)
        return good(instance(9001), instance(9002, "users-2", "critical"), index=12)

    agent = FakeAgent(lambda _: GOOD)
    async with agent, Watch(agent.address, "users", resync_interval=0.1) as watch:
        await watch.until("127.0.0.1:9001")
        agent.answer = answer
        seen = len(agent.requests)
        await eventually(lambda: len(agent.requests) > seen + 5, "second looks")
        assert any("consistent" in one.arguments for one in agent.requests)
        assert len(watch.history) == 1


async def test_what_the_acl_hides_is_not_gone(caplog: pytest.LogCaptureFixture) -> None:
    hidden = good(index=11, **{"X-Consul-Results-Filtered-By-ACLs": "true"})
    async with (
        FakeAgent(lambda _: GOOD) as agent,
        Watch(agent.address, "users", resync_interval=0.1, empty_grace=0.0) as watch,
    ):
        await watch.until("127.0.0.1:9001")
        agent.answer = lambda _: hidden
        await eventually(lambda: "does not answer" in caplog.text, "the log")
        assert len(watch.history) == 1


async def test_the_token_is_in_a_header_and_nowhere_else(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with (
        FakeAgent(lambda _: (500, {}, "")) as agent,
        Watch(agent.address, "users", token="s3cret", all_names=True, resync_interval=0.1),
    ):
        await eventually(lambda: len(agent.requests) > 5, "requests")
    for request in agent.requests:
        assert request.headers["X-Consul-Token"] == "s3cret"
        assert "s3cret" not in request.uri
    assert "s3cret" not in caplog.text


async def test_a_service_that_changes_all_the_time_is_not_asked_for_all_the_time() -> None:
    async with (
        FakeAgent(lambda _: good(instance(9001), index=len(agent.requests) + 1)) as agent,
        Watch(agent.address, "users", resync_interval=3600) as watch,
    ):
        loop = asyncio.get_running_loop()
        await watch.until("127.0.0.1:9001")
        began, asked = loop.time(), len(agent.requests)
        await eventually(lambda: len(agent.requests) >= asked + 5, "five more")
        assert loop.time() - began > 0.4


async def test_a_consumer_that_fails_does_not_stop_discovery(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        FakeAgent(lambda _: good(instance(9001), index=len(agent.requests) + 1)) as agent,
        Watch(agent.address, "users", resync_interval=3600) as watch,
    ):
        await watch.until("127.0.0.1:9001")
        published: list[Any] = []

        def fail(*values: Any) -> None:
            published.append(values)
            raise RuntimeError("a mistake of the consumer")

        watch.watcher._publish = fail
        agent.answer = lambda _: good(instance(9002), index=len(agent.requests) + 1)
        await eventually(lambda: len(published) == 1, "the first change")
        agent.answer = lambda _: good(instance(9003), index=len(agent.requests) + 1)
        await eventually(lambda: len(published) == 2, "the second change")
    assert "discovery was published and not taken" in caplog.text


async def test_connections_are_used_again() -> None:
    async with (
        FakeAgent(lambda _: good(instance(9001), index=len(agent.requests) + 1)) as agent,
        Watch(agent.address, "users", resync_interval=3600) as watch,
    ):
        await eventually(lambda: len(agent.requests) >= 4, "queries")
        assert len({one.connection for one in agent.requests}) <= 4
        assert len(watch.watcher._client._consul.http._open) == 1
