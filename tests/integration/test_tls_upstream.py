"""TLS between a real gateway process and real services: who is trusted, and what else happens."""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websockets

from tests.certificates import EXPIRED, NAME, Authority
from tests.conftest import Serve, Services
from tests.consul_server import ConsulServer
from tests.running import RunningGateway, Served, Upstream, answer_ok, eventually


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    (tmp_path / "stranger").mkdir()
    return Authority(tmp_path / "stranger")


@pytest.fixture
def consul() -> Iterator[ConsulServer]:
    with ConsulServer() as server:
        yield server


def proxied(endpoints: str, service: str) -> str:
    return (
        'consul_address: ""\nnats_address: ""\n'
        f"services: {{s: {{endpoints: [{endpoints}], {service}}}}}\n"
        "routes: [{name: r, match: {path_prefix: /}, service: s}]\n"
    )


def https(upstream: Upstream, tls: str, host: str = "127.0.0.1") -> str:
    return proxied(f'"{host}:{upstream.port}"', f"protocol: https, tls: {{{tls}}}")


async def refused(gateway: RunningGateway, path: str = "/") -> tuple[str, str]:
    """The reason of a 502, and what the access log says beyond it."""
    answer = await gateway.get(path)
    assert answer.status == 502, answer
    line = await gateway.access(answer.headers["x-request-id"])
    assert line["reason"] == answer.json["reason"]
    return answer.json["reason"], line["detail"]


@pytest.mark.parametrize(
    ("names", "host", "server_name"),
    [
        (("127.0.0.1",), "127.0.0.1", ""),
        (("localhost",), "localhost", ""),
        (("users.internal",), "127.0.0.1", "users.internal"),
        (("*.svc.internal",), "127.0.0.1", "users.svc.internal"),
    ],
)
async def test_a_service_that_proves_its_name_is_talked_to(
    serve: Serve,
    services: Services,
    authority: Authority,
    names: tuple[str, ...],
    host: str,
    server_name: str,
) -> None:
    context = authority.server(authority.issue("service", *names))
    asked: list[str | None] = []
    context.sni_callback = lambda connection, name, _: asked.append(name)
    (upstream,) = await services(answer_ok, tls=context)
    tls = f'ca: {authority.file}, server_name: "{server_name}"'
    gateway = await serve(https(upstream, tls, host))
    for _ in range(3):
        answer = await gateway.request("POST /", body=b"abc")
        assert (answer.status, answer.body) == (200, b"%d" % upstream.port)
    assert upstream.connections == 1
    name = server_name or host
    assert asked == [None if name == "127.0.0.1" else name]  # RFC 6066 section 3: names only


async def test_a_service_that_does_not_is_refused_with_the_reason(
    serve: Serve, services: Services, authority: Authority, stranger: Authority
) -> None:
    good = authority.issue("service", "users.internal", "127.0.0.1")
    old = authority.issue("old", "127.0.0.1", not_after=EXPIRED)
    ca = f"ca: {authority.file}"
    cases = (
        (f"{ca}, server_name: x.internal", good, "Hostname mismatch"),
        (f"ca: {stranger.file}", good, "unable to get local issuer"),
        ("", good, "unable to get local issuer"),  # the authorities of the system
        (ca, old, "certificate has expired"),
        (ca, authority.issue("ip", "127.0.0.2"), "IP address mismatch"),
        (ca, authority.issue("name", "localhost"), "IP address mismatch"),
    )
    upstreams, names, routes = [], [], []
    for number, (tls, pair, _) in enumerate(cases):
        (upstream,) = await services(answer_ok, tls=authority.server(pair))
        upstreams.append(upstream)
        names.append(
            f"s{number}: {{endpoints: ['{upstream.address}'], protocol: https, tls: {{{tls}}}}}"
        )
        routes.append(f"{{name: r{number}, match: {{path: /{number}}}, service: s{number}}}")
    gateway = await serve(
        'consul_address: ""\nnats_address: ""\n'
        f"services: {{{', '.join(names)}}}\nroutes: [{', '.join(routes)}]\n"
    )
    for number, (_, _, why) in enumerate(cases):
        reason, detail = await refused(gateway, f"/{number}")
        assert (reason, why in detail) == ("tls_certificate", True), detail
    assert not any(upstream.served for upstream in upstreams)


async def test_without_verification_anybody_is_believed(
    serve: Serve, services: Services, authority: Authority
) -> None:
    pair = authority.issue("old", "other.test", not_after=EXPIRED)
    (upstream,) = await services(answer_ok, tls=authority.server(pair))
    gateway = await serve(https(upstream, "verify: false"))
    assert (await gateway.get("/")).status == 200


async def test_a_service_that_speaks_no_tls_is_a_failed_handshake(
    serve: Serve, authority: Authority
) -> None:
    plain = await asyncio.start_server(_say_hello, "127.0.0.1", 0)
    port = plain.sockets[0].getsockname()[1]
    gateway = await serve(
        proxied(f'"127.0.0.1:{port}"', f"protocol: https, tls: {{ca: {authority.file}}}")
    )
    assert (await refused(gateway))[0] == "tls_failed"
    plain.close()


async def _say_hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mail.test ESMTP\r\n")
    await reader.read(1)
    writer.close()


async def test_a_service_that_closes_in_the_handshake_is_a_failed_handshake(
    serve: Serve, authority: Authority
) -> None:
    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    server = await asyncio.start_server(close, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    gateway = await serve(
        proxied(f'"127.0.0.1:{port}"', f"protocol: https, tls: {{ca: {authority.file}}}")
    )
    assert (await refused(gateway))[0] == "tls_failed"
    server.close()


async def test_a_service_that_does_not_answer_the_handshake_is_a_connect_timeout(
    serve: Serve, authority: Authority
) -> None:
    ended = asyncio.Event()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        ended.set()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    gateway = await serve(
        proxied(
            f'"127.0.0.1:{port}"',
            f"protocol: https, tls: {{ca: {authority.file}}}, pool: {{connect_timeout: 200ms}}",
        )
    )
    answer = await gateway.get("/")
    assert (answer.status, answer.json["reason"]) == (504, "connect_timeout")
    await asyncio.wait_for(ended.wait(), 10)  # and the connection is given up
    busy = 'siger_upstream_connections{service="s",state="busy"}'
    assert await gateway.metric(busy) == 0
    server.close()


async def test_another_endpoint_is_tried_when_one_cannot_prove_who_it_is(
    serve: Serve, services: Services, authority: Authority, stranger: Authority
) -> None:
    (good,) = await services(
        answer_ok, tls=authority.server(authority.issue("service", "127.0.0.1"))
    )
    (bad,) = await services(answer_ok, tls=stranger.server(stranger.issue("bad", "127.0.0.1")))
    gateway = await serve(
        proxied(
            f'"{good.address}", "{bad.address}"', f"protocol: https, tls: {{ca: {authority.file}}}"
        )
    )
    for _ in range(4):
        answer = await gateway.request("POST /", body=b"abc")
        assert (answer.status, answer.body) == (200, b"%d" % good.port)
    assert not bad.served
    retries = await gateway.metric('siger_retries_total{reason="tls_certificate",service="s"}')
    assert retries >= 1


async def test_the_gateway_proves_who_it_is_where_a_service_asks(
    serve: Serve, services: Services, authority: Authority
) -> None:
    context = authority.server(authority.issue("service", "127.0.0.1"))
    context.load_verify_locations(authority.file)
    context.verify_mode = ssl.CERT_REQUIRED
    (upstream,) = await services(answer_ok, tls=context)
    cert, key = authority.issue("gateway", "gateway.internal")
    gateway = await serve(https(upstream, f"ca: {authority.file}, cert: {cert}, key: {key}"))
    assert (await gateway.get("/")).status == 200
    presented = upstream.served[-1].writer.get_extra_info("peercert")
    assert ("DNS", "gateway.internal") in presented["subjectAltName"]
    without = await serve(https(upstream, f"ca: {authority.file}"))
    # In TLS 1.3 the refusal comes after the handshake, in place of the answer.
    assert (await refused(without))[0] == "upstream_reset"
    assert len(upstream.served) == 1


async def test_changed_files_are_used_for_new_connections(
    serve: Serve, services: Services, authority: Authority, stranger: Authority
) -> None:
    (upstream,) = await services(
        answer_ok, tls=authority.server(authority.issue("service", "127.0.0.1"))
    )
    trusted = authority.folder / "trusted.pem"
    trusted.write_bytes(stranger.file.read_bytes())
    gateway = await serve(https(upstream, f"ca: {trusted}"))
    assert (await refused(gateway))[0] == "tls_certificate"
    trusted.write_bytes(authority.file.read_bytes())

    async def accepted() -> bool:
        return (await gateway.get("/")).status == 200

    await eventually(accepted)
    trusted.write_text("no certificate")
    await gateway.line("file for TLS to a service is not used")
    assert (await gateway.get("/")).status == 200


async def test_an_answer_that_is_cut_off_without_close_notify_is_not_taken_for_whole(
    serve: Serve, services: Services, authority: Authority
) -> None:
    async def until_close(upstream: Upstream, served: Served) -> None:
        await served.send(b"HTTP/1.1 200 OK\r\n\r\n12345")
        if "cut" in served.line:
            # Past the TLS layer: the end of the TCP stream and nothing else.
            served.writer.transport.abort()
        else:
            served.writer.close()
        raise EOFError

    (upstream,) = await services(
        until_close, tls=authority.server(authority.issue("service", "127.0.0.1"))
    )
    gateway = await serve(https(upstream, f"ca: {authority.file}"))
    assert (await gateway.get("/whole")).body == b"12345"
    with pytest.raises((EOFError, ConnectionError)):
        await gateway.get("/cut")


async def test_an_endpoint_of_the_file_may_speak_another_protocol_than_its_service(
    serve: Serve, services: Services, authority: Authority
) -> None:
    (plain,) = await services(answer_ok)
    (secure,) = await services(
        answer_ok, tls=authority.server(authority.issue("service", "127.0.0.1"))
    )
    for own, service in (("https", "http"), ("http", "https")):
        odd, other = (secure, plain) if own == "https" else (plain, secure)
        gateway = await serve(
            proxied(
                f'{{address: "{odd.address}", protocol: {own}}}, "{other.address}"',
                f"protocol: {service}, tls: {{ca: {authority.file}}}",
            )
        )
        bodies = {(await gateway.get("/")).body for _ in range(4)}
        assert bodies == {b"%d" % plain.port, b"%d" % secure.port}
        await gateway.stop()


async def test_an_instance_in_consul_says_how_it_is_spoken_to(
    serve: Serve, services: Services, authority: Authority, consul: ConsulServer
) -> None:
    context = authority.server(authority.issue("service", "127.0.0.1"))
    by_meta, by_tag = await services(answer_ok, answer_ok, tls=context)
    plain, also_plain = await services(answer_ok, answer_ok)
    consul.register("users", "u1", port=by_meta.port, meta={"protocol": "https"})
    consul.register("users", "u2", port=by_tag.port, tags=["v1", "https"])
    consul.register("users", "u3", port=plain.port)
    consul.register("users", "u4", port=also_plain.port, tags=["https"], meta={"protocol": "http"})
    text = (
        f'consul_address: "{consul.address}"\nnats_address: ""\nregister: {{name: ""}}\n'
        f"services: {{s: {{consul: users, tls: {{ca: {authority.file}}}}}}}\n"
        "routes: [{name: r, match: {path_prefix: /}, service: s}]\n"
    )
    gateway = await serve(text)
    everybody = {b"%d" % one.port for one in (by_meta, by_tag, plain, also_plain)}

    async def known() -> bool:
        return await gateway.metric('siger_upstream_endpoints{service="s",state="available"}') == 4

    await eventually(known)
    assert {(await gateway.get("/")).body for _ in range(8)} == everybody
    # The next start has no Consul, and the snapshot knows the same.
    gateway.send(signal.SIGTERM)
    assert await gateway.wait() == 0
    consul.kill()
    await gateway.start()
    assert {(await gateway.get("/")).body for _ in range(8)} == everybody


async def test_https_in_the_file_holds_for_every_instance(
    serve: Serve, services: Services, authority: Authority, consul: ConsulServer
) -> None:
    context = authority.server(authority.issue("service", "127.0.0.1"))
    (upstream,) = await services(answer_ok, tls=context)
    consul.register("users", "u1", port=upstream.port, meta={"protocol": "http"})
    gateway = await serve(
        f'consul_address: "{consul.address}"\nnats_address: ""\nregister: {{name: ""}}\n'
        f"services: {{s: {{consul: users, protocol: https, tls: {{ca: {authority.file}}}}}}}\n"
        "routes: [{name: r, match: {path_prefix: /}, service: s}]\n"
    )

    async def accepted() -> bool:
        return (await gateway.get("/")).status == 200

    await eventually(accepted)


async def test_health_checks_go_over_tls_and_take_out_who_cannot_prove_who_it_is(
    serve: Serve, services: Services, authority: Authority, stranger: Authority
) -> None:
    (good,) = await services(
        answer_ok, tls=authority.server(authority.issue("service", "127.0.0.1"))
    )
    (bad,) = await services(answer_ok, tls=stranger.server(stranger.issue("bad", "127.0.0.1")))
    gateway = await serve(
        proxied(
            f'"{good.address}", "{bad.address}"',
            f"protocol: https, tls: {{ca: {authority.file}}}, health_check: {{path: /health}}",
        )
    )
    line = await gateway.line("endpoint unhealthy")
    assert line["endpoint"] == bad.address
    assert "unable to get local issuer" in line["error"]
    for _ in range(4):
        assert (await gateway.get("/")).body == b"%d" % good.port
    assert await gateway.metric('siger_retries_total{reason="tls_certificate",service="s"}') == 0


async def test_a_websocket_passes_over_tls_on_both_sides(
    serve: Serve, authority: Authority
) -> None:
    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    pair = authority.issue("server", NAME, "127.0.0.1")
    async with serve_websockets(
        echo, "127.0.0.1", 0, max_size=None, compression=None, ssl=authority.server(pair)
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        gateway = await serve(
            proxied(f'"127.0.0.1:{port}"', f"protocol: https, tls: {{ca: {authority.file}}}")
            + f"tls: {{cert: {pair[0]}, key: {pair[1]}}}\n"
        )
        async with connect(
            f"wss://127.0.0.1:{gateway.port}/chat",
            ssl=authority.client(),
            max_size=None,
            compression=None,
        ) as client:
            for message in ("short", "long " * 500_000):
                await client.send(message)
                assert await client.recv() == message
            await client.close(4001, "enough")
        assert (client.close_code, client.close_reason) == (4001, "enough")
