"""``transcode: {descriptors: reflection}``: what a service tells of itself becomes JSON, through a
real gateway and from real servers: late, changed, gone, mute and malicious ones."""

from __future__ import annotations

import signal
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc import aio

from siger_gateway.grpc.protos.grpc_reflection.v1 import reflection_pb2
from tests.conftest import Serve
from tests.consul_server import ConsulServer
from tests.described_server import (
    DescribedServer,
    a_file_at_a_time,
    error,
    listing,
    telling,
    things,
)
from tests.nats_server import free_port
from tests.running import BOUND, Answer, RunningGateway, eventually

OLD = things('get: "/v1/things/{thing_id}"')
NEW = things('get: "/v2/things/{thing_id}"')
TWICE = things('get: "/v1/things/{thing_id}"', 'get: "/v1/things/{name}"')
LEARNED = "descriptors learned"
NOT_LEARNED = "descriptors not learned"


def config(*ports: int, transcode: str = "refresh: 1s", more: str = "") -> str:
    endpoints = ", ".join(f"'127.0.0.1:{port}'" for port in ports)
    separator = ", " if transcode else ""
    return (
        'consul_address: ""\nnats_address: ""\n'
        f"services:\n  s: {{endpoints: [{endpoints}], protocol: h2c{more},\n"
        f"      transcode: {{descriptors: reflection{separator}{transcode}}}}}\n"
        "routes: [{name: r, match: {path_prefix: /}, service: s}]\n"
    )


def problem(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json["reason"]


async def thing(gateway: RunningGateway, version: str = "v1", **also: Any) -> None:
    """Asserts that a thing comes back."""
    answer = await gateway.get(f"/{version}/things/7?name=seven")
    assert (answer.status, answer.json) == (200, {"thingId": "7", "name": "seven"} | also)


async def not_learned(gateway: RunningGateway, error: str, after: int = 0) -> dict[str, Any]:
    """The line of the log that says that nothing was learned, and ``error`` is in it."""

    async def find() -> dict[str, Any] | None:
        return next(
            (
                line
                for line in gateway.lines[after:]
                if line["message"] == NOT_LEARNED and error in line["error"]
            ),
            None,
        )

    return await eventually(find)


async def call(gateway: RunningGateway) -> bytes:
    """What a client of gRPC gets for a call that needs no description."""
    async with aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        answer: bytes = await channel.unary_unary("/things.v1.Things/Get0")(
            b"\x0a\x017", timeout=BOUND
        )
        return answer


async def test_a_service_that_comes_after_the_gateway_is_learned_when_it_is_there(
    serve: Serve,
) -> None:
    port = free_port()
    gateway = await serve(config(port))
    first = await gateway.get("/v1/things/7")
    assert problem(first) == (503, "descriptors_awaited")
    assert "server reflection" in first.json["detail"]
    await not_learned(gateway, f"127.0.0.1:{port}: connect_refused")
    assert await gateway.metric('siger_reflected_rules{service="s"}') == 0
    async with DescribedServer(OLD, port=port):
        learned = await gateway.line(LEARNED)
        assert learned["services"] == ["things.v1.Things"]
        assert (learned["service"], learned["endpoint"]) == ("s", f"127.0.0.1:{port}")
        await thing(gateway)
        posted = await gateway.request(
            "POST /things.v1.Things/Get0",
            "Content-Type: application/json",
            body=b'{"thingId": "1"}',
        )
        assert (posted.status, posted.json) == (200, {"thingId": "1"})
    # The rule, and the path of the method itself.
    assert await gateway.metric('siger_reflected_rules{service="s"}') == 2


async def test_services_of_grpc_itself_are_not_served_in_json(serve: Serve) -> None:
    health = things('get: "/v1/things/{thing_id}"', package="grpc.health.v1")
    async with DescribedServer(health) as server:
        gateway = await serve(config(server.port))
        await not_learned(gateway, "it lists no service")
        named = await serve(config(server.port, transcode="services: [grpc.health.v1.Things]"))
        await named.line(LEARNED)
        await thing(named)


async def test_another_version_at_the_same_address_is_learned_after_a_while(serve: Serve) -> None:
    async with DescribedServer(OLD) as old:
        gateway = await serve(config(old.port))
        await gateway.line(LEARNED)
        await thing(gateway)
    seen = len(gateway.lines)
    async with DescribedServer(NEW, port=old.port):
        await gateway.line(LEARNED, after=seen)
        await thing(gateway, "v2")
        assert problem(await gateway.get("/v1/things/7")) == (404, "no_route")


async def test_another_version_is_learned_when_the_endpoints_change(serve: Serve) -> None:
    checked = ", health_check: {type: tcp, interval: 100ms, unhealthy: 1, healthy: 1}"
    async with DescribedServer(OLD) as old:
        gateway = await serve(config(old.port, transcode="refresh: 1h", more=checked))
        await gateway.line(LEARNED)
    seen = len(gateway.lines)
    await gateway.line("endpoint unhealthy", after=seen)
    async with DescribedServer(NEW, port=old.port):
        await gateway.line(LEARNED, after=seen)
        await thing(gateway, "v2")


async def test_another_version_is_learned_when_consul_has_other_instances(serve: Serve) -> None:
    with ConsulServer() as consul:
        async with DescribedServer(OLD) as old, DescribedServer(NEW) as new:
            consul.register("things", "old", port=old.port)
            gateway = await serve(
                f'consul_address: "{consul.address}"\nnats_address: ""\n'
                "services:\n  s: {consul: things, protocol: h2c,\n"
                "      transcode: {descriptors: reflection, refresh: 1h}}\n"
                "routes: [{name: r, match: {path_prefix: /}, service: s}]\n"
            )
            await gateway.line(LEARNED)
            await thing(gateway)
            seen = len(gateway.lines)
            consul.register("things", "new", port=new.port)
            consul.deregister("old")
            await gateway.line(LEARNED, after=seen)
            await thing(gateway, "v2")


async def test_what_was_learned_stays_while_the_service_is_away(serve: Serve) -> None:
    async with DescribedServer(OLD) as server:
        gateway = await serve(config(server.port))
        await gateway.line(LEARNED)
    failed = await gateway.line(NOT_LEARNED)
    assert failed["rules_in_use"] == 2
    assert problem(await gateway.get("/v1/things/7")) == (502, "connect_refused")
    async with DescribedServer(OLD, port=server.port):
        await gateway.line("descriptors are told again")
        await thing(gateway)
    said = [one for one in gateway.lines if one.get("message") == LEARNED]
    assert len(said) == 1  # the same descriptors are no news


@pytest.mark.parametrize(
    ("reflection", "error"),
    [(False, "it has no reflection"), (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")],
)
async def test_what_was_learned_stays_when_reflection_is_switched_off(
    serve: Serve, reflection: Any, error: str
) -> None:
    async with DescribedServer(OLD) as server:
        gateway = await serve(config(server.port))
        await gateway.line(LEARNED)
    async with DescribedServer(OLD, reflection, port=server.port):
        assert (await not_learned(gateway, error))["rules_in_use"] == 2
        await thing(gateway)


async def test_rules_that_cannot_be_used_do_not_replace_those_that_can(serve: Serve) -> None:
    async with DescribedServer(OLD) as server:
        gateway = await serve(config(server.port))
        await gateway.line(LEARNED)
    async with DescribedServer(TWICE, port=server.port):
        reason = "things.v1.Things.Get1 and things.v1.Things.Get0 want the same GET requests"
        assert (await not_learned(gateway, reason))["rules_in_use"] == 2
        await thing(gateway)


async def test_a_service_without_reflection_serves_grpc_and_json_is_told_what_is_awaited(
    serve: Serve,
) -> None:
    async with DescribedServer(OLD, reflection=False) as server:
        gateway = await serve(config(server.port))
        failed = await gateway.line(NOT_LEARNED)
        assert failed["error"] == (
            f"127.0.0.1:{server.port}: it has no reflection: UNIMPLEMENTED in v1 and v1alpha"
        )
        assert problem(await gateway.get("/v1/things/7")) == (503, "descriptors_awaited")
        assert await call(gateway) == b"\x0a\x017"
        gateway.send(signal.SIGTERM)
        assert await gateway.wait() == 0


async def test_a_service_that_refuses_reflection_is_not_asked_in_the_other_version(
    serve: Serve,
) -> None:
    async with DescribedServer(OLD, grpc.StatusCode.PERMISSION_DENIED) as server:
        gateway = await serve(config(server.port))
        failed = await gateway.line(NOT_LEARNED)
        assert failed["error"] == f"127.0.0.1:{server.port}: it answers PERMISSION_DENIED"
        assert problem(await gateway.get("/v1/things/7")) == (503, "descriptors_awaited")


async def test_a_server_that_tells_a_file_at_a_time_is_asked_for_the_imports(serve: Serve) -> None:
    types = FileDescriptorProto(name="types.proto", package="p", syntax="proto3")
    message = types.message_type.add(name="Thing")
    message.field.add(name="thing_id", number=1, type=9, label=1)
    service = FileDescriptorProto(name="s.proto", package="p", syntax="proto3")
    service.dependency.append("types.proto")
    method = service.service.add(name="Do").method.add(name="It")
    method.input_type = method.output_type = ".p.Thing"
    descriptors = b"".join(
        b"\x0a%c" % len(one) + one
        for one in (types.SerializeToString(), service.SerializeToString())
    )
    telling_one = a_file_at_a_time(descriptors, "p.Do", "p.Ghost")
    async with DescribedServer(descriptors, telling_one) as server:
        gateway = await serve(config(server.port, transcode="refresh: 1h"))
        learned = await gateway.line(LEARNED)
        assert (learned["files"], learned["undescribed"]) == (2, ["p.Ghost"])
        asked = [one.WhichOneof("message_request") for one in server.asked]
        assert asked == ["list_services", *["file_containing_symbol"] * 2, "file_by_filename"]
        answer = await gateway.request(
            "POST /p.Do/It", "Content-Type: application/json", body=b'{"thing_id":"1"}'
        )
    assert (answer.status, answer.json) == (200, {"thingId": "1"})


async def test_only_the_services_that_are_named_are_asked_for(serve: Serve) -> None:
    telling_one = a_file_at_a_time(OLD)
    async with DescribedServer(OLD, telling_one) as server:
        gateway = await serve(config(server.port, transcode="services: [things.v1.Things]"))
        await gateway.line(LEARNED)
        await thing(gateway)
        kinds = {one.WhichOneof("message_request") for one in server.asked}
        assert "list_services" not in kinds
        other = await serve(config(server.port, transcode="services: [things.v1.Thinks]"))
        failed = await other.line(NOT_LEARNED)
        assert failed["error"] == "it knows no service 'things.v1.Thinks'"


def cyclic(request: Any) -> Any:
    one = FileDescriptorProto(name="one.proto", dependency=["two.proto"])
    one.service.add(name="Do").method.add(name="It", input_type="M", output_type="M")
    two = FileDescriptorProto(name="two.proto", dependency=["one.proto"])
    return listing("Do") if request.HasField("list_services") else telling(one, two)


def lacking(request: Any) -> Any:
    one = FileDescriptorProto(name="one.proto", dependency=["two.proto"])
    one.service.add(name="Do").method.add(name="It", input_type="M", output_type="M")
    if request.HasField("file_by_filename"):
        return error(5)
    return listing("Do") if request.HasField("list_services") else telling(one)


def endless(request: Any) -> Any:
    """Every file imports another."""
    if request.HasField("list_services"):
        return listing("Do")
    name = request.file_by_filename or "0"
    file = FileDescriptorProto(name=name, dependency=[str(int(name) + 1)])
    if name == "0":
        file.service.add(name="Do")
    return telling(file)


def large(request: Any) -> Any:
    """A message that is 5 MiB long, by the names of its fields."""
    file = FileDescriptorProto(name="large.proto")
    message = file.message_type.add(name="M")
    for number in range(1, 80_000):
        message.field.add(name="f" * 50 + str(number), number=number, type=9, label=1)
    return listing("Do") if request.HasField("list_services") else telling(file)


def of_another_kind(request: Any) -> Any:
    return reflection_pb2.ServerReflectionResponse()


@pytest.mark.parametrize(
    ("reflection", "reason"),
    [
        (cyclic, "two.proto imports one.proto, which imports it"),
        (lacking, "'one.proto' imports 'two.proto', which it does not tell"),
        (endless, "it tells more than 2000 files"),
        (large, "upstream_protocol: The answer has more than 4194309 bytes."),
        (of_another_kind, "it lists no service"),
    ],
)
async def test_a_description_that_makes_no_sense_is_refused_with_its_reason(
    serve: Serve, reflection: Any, reason: str
) -> None:
    async with DescribedServer(OLD, reflection) as server:
        gateway = await serve(config(server.port))
        await not_learned(gateway, reason)
        assert problem(await gateway.get("/v1/things/7")) == (503, "descriptors_awaited")
        assert await call(gateway) == b"\x0a\x017"


async def test_a_reload_keeps_what_was_learned_and_writes_it_in_the_new_style(
    serve: Serve,
) -> None:
    async with DescribedServer(OLD) as server:
        gateway = await serve(config(server.port, transcode="refresh: 1h"))
        await gateway.line(LEARNED)
    gateway.write_config(config(server.port, transcode="refresh: 1h, names: proto"))
    assert (await gateway.reload())["message"] == "reloaded"
    # Nobody is there to be asked, and requests are still matched.
    assert problem(await gateway.get("/v1/things/7")) == (502, "connect_refused")
    async with DescribedServer(OLD, port=server.port):
        answer = await gateway.get("/v1/things/7")
    assert (answer.status, answer.json) == (200, {"thing_id": "7"})


async def test_a_reload_asks_again_at_the_new_endpoints(serve: Serve) -> None:
    async with DescribedServer(OLD) as old, DescribedServer(NEW) as new:
        gateway = await serve(config(old.port, transcode="refresh: 1h"))
        await gateway.line(LEARNED)
        seen = len(gateway.lines)
        gateway.write_config(config(new.port, transcode="refresh: 1h"))
        assert (await gateway.reload())["message"] == "reloaded"
        learned = await gateway.line(LEARNED, after=seen)
        assert learned["endpoint"] == f"127.0.0.1:{new.port}"
        await thing(gateway, "v2")


async def test_a_reload_asks_again_if_nothing_else_has_changed(serve: Serve) -> None:
    async with DescribedServer(OLD) as old:
        gateway = await serve(config(old.port, transcode="refresh: 1h"))
        await gateway.line(LEARNED)
    async with DescribedServer(NEW, port=old.port):
        seen = len(gateway.lines)
        assert (await gateway.reload())["message"] == "reloaded"
        await gateway.line(LEARNED, after=seen)
        await thing(gateway, "v2")


async def test_a_reload_can_end_it_and_begin_it_again(serve: Serve) -> None:
    async with DescribedServer(OLD) as server:
        gateway = await serve(config(server.port, transcode="refresh: 1s"))
        await gateway.line(LEARNED)
        with_it = gateway.config_path.read_text()
        plain = config(server.port).replace("transcode: {descriptors: reflection, refresh: 1s}", "")
        gateway.write_config(plain)
        assert (await gateway.reload())["message"] == "reloaded"
        assert (await gateway.get("/v1/things/7")).status not in (200, 503)
        assert await call(gateway) == b"\x0a\x017"
        gateway.config_path.write_text(with_it)
        seen = len(gateway.lines)
        assert (await gateway.reload())["message"] == "reloaded"
        await gateway.line(LEARNED, after=seen)
        await thing(gateway)
