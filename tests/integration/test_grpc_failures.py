"""What a gRPC client is told when a call cannot be made, and what operators are: by a real gateway,
to grpcio."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc import aio
from grpc_status import rpc_status

from tests.conftest import Serve, Services
from tests.grpc_services import TEST, GrpcService, ask, client_of, failure, routed
from tests.running import BOUND, RunningGateway, Served, Upstream, eventually
from tests.tokens import SECRET, token

GrpcServices = Callable[..., Awaitable[list[GrpcService]]]


@pytest.fixture
async def grpc_services() -> AsyncIterator[GrpcServices]:
    """``await grpc_services(None, code)`` starts services, the second of which refuses calls."""
    started: list[GrpcService] = []

    async def start(*refusals: grpc.StatusCode | None) -> list[GrpcService]:
        services = [GrpcService(refuses) for refuses in refusals]
        for service in services:
            started.append(service)
            await service.start()
        return services

    yield start
    for service in started:
        await service.stop()


async def failed(
    gateway: RunningGateway, path: str = f"{TEST}/UnaryCall", *metadata: tuple[str, str]
) -> aio.AioRpcError:
    """The error of one call."""
    async with client_of(gateway.port) as client:
        call = client.channel.unary_unary(path)
        return await failure(call(ask(), metadata=metadata, timeout=BOUND))


def details(error: aio.AioRpcError) -> dict[str, Any]:
    """Type -> message of what stands in ``grpc-status-details-bin``."""
    call: Any = error
    # What rpc_status wants is a synchronous call; an AioRpcError has its fields as methods too.
    status = rpc_status.from_call(call)
    assert status is not None
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    found = {}
    for kind in (
        error_details_pb2.ErrorInfo,
        error_details_pb2.RetryInfo,
        error_details_pb2.BadRequest,
    ):
        for packed in status.details:
            message = kind()
            if packed.Unpack(message):
                found[kind.__name__] = message
    assert len(found) == len(status.details)
    return found


def reason(error: aio.AioRpcError) -> str:
    info = details(error)["ErrorInfo"]
    assert info.domain == "siger"
    assert info.metadata["request_id"] == dict(error.trailing_metadata())["x-request-id"]
    name: str = info.reason
    return name


# Local replies.


async def test_a_call_without_a_route_is_unimplemented(serve: Serve) -> None:
    gateway = await serve('consul_address: ""\nnats_address: ""\n')
    error = await failed(gateway)
    assert (error.code(), reason(error)) == (grpc.StatusCode.UNIMPLEMENTED, "no_route")


async def test_calls_are_routed_by_their_metadata(
    serve: Serve, grpc_services: GrpcServices
) -> None:
    old, new = await grpc_services(None, None)
    gateway = await serve(
        'consul_address: ""\nnats_address: ""\n'
        f"services: {{old: {{endpoints: [{old.address}], protocol: h2c}}, "
        f"new: {{endpoints: [{new.address}], protocol: h2c}}}}\n"
        "routes:\n"
        "  - {name: new, match: {path_prefix: /grpc.testing.TestService, "
        "headers: {x-version: next}}, service: new}\n"
        "  - {name: old, match: {path_prefix: /grpc.testing.TestService}, service: old}\n"
    )
    async with client_of(gateway.port) as client:
        for metadata in (("x-version", "next"),), (("x-version", "this"),), ():
            await client.unary(ask(), metadata=metadata, timeout=BOUND)
        twice = (("x-version", "next"), ("x-version", "this"))
        error = await failure(client.unary(ask(), metadata=twice, timeout=BOUND))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, "it decides, so it is said once"
    assert [len(one.calls) for one in (new, old)] == [1, 2]


async def test_a_service_that_is_not_there_is_unavailable(
    serve: Serve, grpc_services: GrpcServices
) -> None:
    (service,) = await grpc_services(None)
    gateway = await serve(routed(service))
    await service.stop()
    error = await failed(gateway)
    assert (error.code(), reason(error)) == (grpc.StatusCode.UNAVAILABLE, "connect_refused")


async def test_a_service_without_endpoints_is_unavailable(serve: Serve) -> None:
    gateway = await serve(
        'consul_address: "127.0.0.1:1"\nnats_address: ""\nregister: {name: ""}\n'
        "services: {s: {consul: s, protocol: h2c}}\n"
        "routes: [{name: r, match: {path_prefix: /}, service: s}]\n"
    )
    error = await failed(gateway)
    assert (error.code(), reason(error)) == (grpc.StatusCode.UNAVAILABLE, "no_endpoints")


async def test_who_may_not_call_is_told_so(serve: Serve, grpc_services: GrpcServices) -> None:
    (service,) = await grpc_services(None)
    gateway = await serve(
        routed(
            service,
            route=", auth: required, roles: [admin]",
            rest=f'auth: {{jwt: {{secret: "{SECRET}"}}}}\n',
        )
    )
    path = f"{TEST}/UnaryCall"

    def bearer(role: str) -> tuple[str, str]:
        claims = {"user_id": "u", "role": role, "exp": time.time() + 600}
        return ("authorization", f"Bearer {token(claims).decode()}")

    nobody = await failed(gateway, path)
    assert (nobody.code(), reason(nobody)) == (
        grpc.StatusCode.UNAUTHENTICATED,
        "unauthenticated",
    )
    user = await failed(gateway, path, bearer("user"))
    assert user.code() == grpc.StatusCode.PERMISSION_DENIED
    assert reason(user)
    async with client_of(gateway.port) as client:
        await client.unary(ask(), metadata=(bearer("admin"),), timeout=BOUND)
    assert len(service.calls) == 1


async def test_a_call_too_many_is_told_when_to_try_again(
    serve: Serve, grpc_services: GrpcServices
) -> None:
    (service,) = await grpc_services(None)
    limit = ", rate_limit: {requests: 1, per: 60s}"
    gateway = await serve(routed(service, route=limit))
    async with client_of(gateway.port) as client:
        await client.unary(ask(), timeout=BOUND)
        error = await failure(client.unary(ask(), timeout=BOUND))
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason(error) == "rate_limited"
    delay = details(error)["RetryInfo"].retry_delay.seconds
    assert 0 < delay <= 60
    assert dict(error.trailing_metadata())["retry-after"] == str(delay)


async def test_a_stream_too_many_is_refused_too(serve: Serve, grpc_services: GrpcServices) -> None:
    """The client is still sending when it gets the answer."""
    (service,) = await grpc_services(None)
    limit = ", rate_limit: {requests: 1, per: 60s}"
    gateway = await serve(routed(service, route=limit))
    async with client_of(gateway.port) as client:
        await client.unary(ask(), timeout=BOUND)
        call = client.duplex(timeout=BOUND)
        assert await call.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_service_that_says_nothing_in_time(
    serve: Serve, grpc_services: GrpcServices
) -> None:
    (service,) = await grpc_services(None)
    gateway = await serve(routed(service, route=", timeout: 200ms"))
    error = await failed(gateway, f"{TEST}/Silent")
    assert (error.code(), reason(error)) == (
        grpc.StatusCode.DEADLINE_EXCEEDED,
        "response_timeout",
    )
    assert (await service.calls[0].end()).cancelled


async def test_a_service_that_answers_in_http_gets_a_code_by_its_status(
    serve: Serve, services: Services
) -> None:
    """A proxy in front of a service, or a wrong port, speaks no gRPC."""

    async def unavailable(upstream: Upstream, served: Served) -> None:
        await served.body()
        await served.send(b"HTTP/1.1 503 x\r\nContent-Length: 4\r\n\r\nsick")

    (upstream,) = await services(unavailable)
    gateway = await serve(
        'consul_address: ""\nnats_address: ""\n'
        f'services: {{s: {{endpoints: ["{upstream.address}"]}}}}\n'
        "routes: [{name: r, match: {path_prefix: /}, service: s, retry: {attempts: 1}}]\n"
    )
    error = await failed(gateway, f"{TEST}/UnaryCall", ("x-request-id", "in-http"))
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert "UNAVAILABLE" in (await gateway.access("in-http"))["detail"]


# Deadlines.


async def test_the_deadline_arrives_less_what_has_passed(
    serve: Serve, grpc_services: GrpcServices
) -> None:
    (service,) = await grpc_services(None)
    gateway = await serve(routed(service))
    async with client_of(gateway.port) as client:
        await client.unary(ask(), timeout=100)
        await client.unary(ask())
    with_deadline, without = service.calls
    assert with_deadline.time_remaining is not None
    assert 100 - BOUND < with_deadline.time_remaining < 100
    assert without.time_remaining is None


async def test_the_deadline_of_a_second_attempt_is_less_what_the_first_took(
    serve: Serve, grpc_services: GrpcServices
) -> None:
    """The first endpoint asks to be left alone for a second."""
    both = await grpc_services(grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE)
    for service in both:
        service.refuses_with = (("retry-after", "1"),)
    gateway = await serve(routed(*both, route=", retry: {attempts: 2, on: [unavailable]}"))
    async with client_of(gateway.port) as client:
        await failure(client.unary(ask(), timeout=100))
    late, early = sorted(service.calls[0].time_remaining or 0.0 for service in both)
    assert 100 - BOUND < late <= 99 < early < 100


# Retries.


async def test_a_call_refused_by_one_endpoint_is_made_on_another(
    serve: Serve, grpc_services: GrpcServices
) -> None:
    sick, well = await grpc_services(grpc.StatusCode.UNAVAILABLE, None)
    gateway = await serve(routed(sick, well, route=", retry: {attempts: 3, on: [unavailable]}"))
    async with client_of(gateway.port) as client:
        for number in range(10):
            call = client.unary(ask(1000, size=number), timeout=BOUND)
            assert await call == bytes(number)
            assert dict(await call.trailing_metadata())["x-port"] == str(well.port)
    assert len(well.calls) == 10
    assert len(sick.calls) >= 4
    retries = await gateway.metric('siger_retries_total{reason="unavailable",service="s"}')
    assert retries == len(sick.calls)


async def test_a_code_that_the_policy_does_not_name_is_passed_on(
    serve: Serve, grpc_services: GrpcServices
) -> None:
    services = await grpc_services(grpc.StatusCode.ABORTED, grpc.StatusCode.ABORTED)
    gateway = await serve(routed(*services, route=", retry: {attempts: 3, on: [unavailable]}"))
    error = await failed(gateway)
    assert (error.code(), error.details()) == (grpc.StatusCode.ABORTED, "not me")
    assert sum(len(service.calls) for service in services) == 1


async def test_the_last_refusal_is_passed_on_as_it_is(
    serve: Serve, grpc_services: GrpcServices
) -> None:
    services = await grpc_services(*[grpc.StatusCode.UNAVAILABLE] * 3)
    gateway = await serve(routed(*services, route=", retry: {attempts: 2, on: [unavailable]}"))
    error = await failed(gateway)
    assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "not me")
    assert sum(len(service.calls) for service in services) == 2


async def test_an_endpoint_that_refuses_calls_is_ejected(
    serve: Serve, grpc_services: GrpcServices
) -> None:
    """By ``grpc-status``: its HTTP status is always 200."""
    sick, well = await grpc_services(grpc.StatusCode.UNAVAILABLE, None)
    gateway = await serve(routed(sick, well, service=", outlier: {errors: 2, eject_for: 60s}"))
    codes = Counter[grpc.StatusCode]()
    async with client_of(gateway.port) as client:
        for _ in range(20):
            call = client.unary(ask(), timeout=BOUND)
            codes[await call.code()] += 1
    assert codes == {grpc.StatusCode.UNAVAILABLE: 2, grpc.StatusCode.OK: 18}


# Accounts.


async def calls_of(gateway: RunningGateway) -> dict[tuple[str, ...], float]:
    """(service, method, code) -> figure of ``siger_grpc_calls_total``."""
    text = (await gateway.get("/metrics")).body.decode()
    pattern = r"siger_grpc_calls_total\{(.*?)\} (\S+)"
    found = {}
    for labels, figure in re.findall(pattern, text):
        pairs = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        names = tuple(pairs[f"grpc_{name}"] for name in ("service", "method", "code"))
        found[names] = float(figure)
    return found


async def test_calls_are_counted_by_service_method_and_code(
    serve: Serve, grpc_services: GrpcServices
) -> None:
    (service,) = await grpc_services(None)
    gateway = await serve(routed(service))
    async with client_of(gateway.port) as client:
        for _ in range(3):
            await client.unary(ask(), timeout=BOUND)
        await client.empty(b"", timeout=BOUND)
        await failure(client.unary(ask(code=9, message="x"), timeout=BOUND))
    assert await calls_of(gateway) == {
        ("grpc.testing.TestService", "UnaryCall", "OK"): 3,
        ("grpc.testing.TestService", "EmptyCall", "OK"): 1,
        ("grpc.testing.TestService", "UnaryCall", "FAILED_PRECONDITION"): 1,
    }


async def test_methods_that_no_service_knows_make_no_series(
    serve: Serve, grpc_services: GrpcServices
) -> None:
    (service,) = await grpc_services(None)
    gateway = await serve(routed(service))
    for number in range(3):
        await failed(gateway, f"/made.Up{number}/Method")
    await service.stop()
    for number in range(3):
        await failed(gateway, f"/made.Up{number}/WhileTheServiceIsAway")
    assert await calls_of(gateway) == {
        ("other", "other", "UNIMPLEMENTED"): 3,
        ("other", "other", "UNAVAILABLE"): 3,
    }


async def test_the_access_log_tells_the_code(serve: Serve, grpc_services: GrpcServices) -> None:
    (service,) = await grpc_services(None)
    gateway = await serve(routed(service))
    async with client_of(gateway.port) as client:
        await client.unary(ask(), metadata=(("x-request-id", "good"),), timeout=BOUND)
        wrong = ask(code=5, message="x")
        await failure(client.unary(wrong, metadata=(("x-request-id", "bad"),), timeout=BOUND))
        call = client.silent(metadata=(("x-request-id", "gone"),), timeout=BOUND)
        await service.called(3)
        call.cancel()
    good, bad = await gateway.access("good"), await gateway.access("bad")
    assert (good["status"], good["reason"], good["detail"]) == (200, "", "")
    assert (bad["status"], bad["reason"], bad["detail"]) == (200, "", "grpc-status NOT_FOUND")
    gone = await gateway.access("gone")
    assert (gone["reason"], gone["detail"]) == ("downstream_closed", "grpc-status CANCELLED")
    await eventually(lambda: gateway.in_flight(0))
