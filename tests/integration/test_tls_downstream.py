"""TLS between clients and a real gateway process: Python's own ssl, and raw sockets."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import ssl
from pathlib import Path

import pytest

from tests.certificates import EXPIRED, NAME, Authority, look, presented
from tests.conftest import Serve, Services
from tests.consul_server import ConsulServer
from tests.running import BOUND, Client, RunningGateway, Served, Upstream, answer_ok, eventually

MEBIBYTE = 1 << 20


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def config(upstream: Upstream | None, tls: str, rest: str = "") -> str:
    proxied = (
        ""
        if upstream is None
        else f'services: {{s: {{endpoints: ["{upstream.address}"]}}}}\n'
        "routes: [{name: r, match: {path_prefix: /}, service: s}]\n"
    )
    return f'consul_address: ""\nnats_address: ""\n{proxied}tls: {{{tls}}}\n{rest}'


async def secure(
    serve: Serve, authority: Authority, upstream: Upstream | None, tls: str = "", rest: str = ""
) -> RunningGateway:
    """A gateway with a certificate for ``NAME``, and a client's context that trusts it."""
    cert, key = authority.issue("server", NAME)
    gateway = await serve(config(upstream, f"cert: {cert}, key: {key}{tls}", rest))
    gateway.tls = authority.client()
    return gateway


async def test_a_drain_does_not_wait_for_connections_without_a_handshake(
    serve: Serve, authority: Authority
) -> None:
    gateway = await secure(
        serve, authority, None, rest="limits: {header_timeout: 1h}\ndrain_timeout: 1h\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    assert await gateway.metric("siger_downstream_connections") == 1  # the scrape's; accepted since
    gateway.send(signal.SIGTERM)
    assert await gateway.wait() == 0
    assert await reader.read() == b""
    writer.close()


async def end_of(port: int, sent: bytes = b"") -> bytes:
    """What a plain TCP client gets until the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    try:
        async with asyncio.timeout(BOUND):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


async def test_requests_arrive_as_https(
    serve: Serve, services: Services, authority: Authority
) -> None:
    (upstream,) = await services(answer_ok)
    gateway = await secure(serve, authority, upstream)
    async with gateway.connect() as client:
        for _ in range(3):
            assert (await client.request("POST /", body=b"abc")).status == 200
        tls = client.writer.get_extra_info("ssl_object")
        assert (tls.version(), tls.selected_alpn_protocol()) == ("TLSv1.3", None)
    assert upstream.served[-1].field("x-forwarded-proto") == ["https"]
    assert await gateway.metric('siger_tls_handshakes_total{outcome="ok"}') >= 1
    ends = await gateway.metric(
        f'siger_tls_certificate_not_after_seconds{{file="{authority.folder}/server.pem"}}'
    )
    assert ends > 1.7e9


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["http/1.1", "h2"], "h2"),
        (["h2"], "h2"),
        (["http/1.1"], "http/1.1"),
        (["spdy/1"], None),
    ],
)
async def test_alpn_chooses_http2_where_it_is_offered_and_otherwise_http11(
    serve: Serve, authority: Authority, offered: list[str], chosen: str | None
) -> None:
    gateway = await secure(serve, authority, None)
    assert gateway.tls is not None
    gateway.tls.set_alpn_protocols(offered)
    async with gateway.connect() as client:
        tls = client.writer.get_extra_info("ssl_object")
        assert tls.selected_alpn_protocol() == chosen
        if chosen != "h2":
            assert (await client.request("GET /health/live")).status == 200


async def test_the_certificate_is_chosen_by_the_name_that_is_asked_for(
    serve: Serve, authority: Authority
) -> None:
    pairs = [authority.issue("a", "a.test", "*.wild.test"), authority.issue("b", "b.wild.test")]
    more = ", ".join(f"{{cert: {cert}, key: {key}}}" for cert, key in pairs)
    gateway = await secure(serve, authority, None, f", certificates: [{more}]")
    for asked, shown in (
        ("a.test", "a.test"),
        ("A.Test", "a.test"),
        ("x.wild.test", "a.test"),
        ("b.wild.test", "b.wild.test"),
        ("x.y.wild.test", NAME),  # a wildcard is one label
        ("wild.test", NAME),
        ("unknown.test", NAME),
        ("127.0.0.1", NAME),
        (None, NAME),
    ):
        names = await presented(gateway.port, authority.client(), asked)
        assert names[0] == shown, asked


@pytest.mark.parametrize(
    ("least", "spoken", "refused"),
    [
        ("1.2", ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_1),
        ("1.3", ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_older_versions_are_refused(
    serve: Serve,
    authority: Authority,
    least: str,
    spoken: ssl.TLSVersion,
    refused: ssl.TLSVersion,
) -> None:
    gateway = await secure(serve, authority, None, f', min_version: "{least}"')
    context = authority.client()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = refused
    context.maximum_version = refused
    with pytest.raises(ssl.SSLError, match=r"(?i)alert.protocol.version"):
        await presented(gateway.port, context)
    context.maximum_version = spoken
    assert await presented(gateway.port, context) == (NAME,)
    gateway.tls = authority.client()
    assert await gateway.metric('siger_tls_handshakes_total{outcome="protocol"}') == 1


async def test_only_ciphers_with_forward_secrecy_are_spoken(
    serve: Serve, authority: Authority
) -> None:
    gateway = await secure(serve, authority, None)
    context = authority.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    for weak in ("AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384"):
        context.set_ciphers(weak)
        with pytest.raises(ssl.SSLError):
            await presented(gateway.port, context)
    context.set_ciphers("ECDHE")
    assert await presented(gateway.port, context) == (NAME,)


async def test_a_client_without_the_right_certificate_is_kept_out(
    serve: Serve, services: Services, authority: Authority, tmp_path: Path
) -> None:
    (upstream,) = await services(answer_ok)
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other")
    gateway = await secure(serve, authority, upstream, f", client_ca: {authority.file}")
    bad = [
        None,
        stranger.issue("client", "client.test"),
        authority.issue("old", "client.test", not_after=EXPIRED),
    ]
    for pair in bad:
        for newest in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            gateway.tls = authority.client(pair)
            gateway.tls.maximum_version = newest
            with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
                await gateway.get("/")
    assert not upstream.served
    gateway.tls = authority.client(authority.issue("client", "client.test"))
    assert (await gateway.get("/")).status == 200
    refused = await gateway.metric('siger_tls_handshakes_total{outcome="client_certificate"}')
    assert refused == 2 * len(bad)
    assert not [line for line in gateway.lines if line["level"] not in ("info", "warning")]


async def test_an_optional_client_certificate_is_checked_when_there_is_one(
    serve: Serve, authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other")
    gateway = await secure(
        serve, authority, None, f", client_ca: {authority.file}, client_auth: optional"
    )
    assert (await gateway.get("/health/live")).status == 200
    gateway.tls = authority.client(authority.issue("client", "client.test"))
    assert (await gateway.get("/health/live")).status == 200
    gateway.tls = authority.client(stranger.issue("client", "client.test"))
    with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
        await gateway.get("/health/live")


@pytest.mark.parametrize("how", ["files", "symlink", "signal"])
async def test_new_certificates_are_taken_while_connections_go_on(
    serve: Serve, services: Services, authority: Authority, how: str
) -> None:
    go_on = asyncio.Event()

    async def slow(upstream: Upstream, served: Served) -> None:
        await served.body()
        if "/long" in served.line:
            await served.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n")
            await served.send(bytes(1000000))
            await go_on.wait()
            await served.send(bytes(1000000))
        else:
            await served.ok()

    (upstream,) = await services(slow)
    if how == "symlink":
        authority.issue("one", NAME)
        for end in ("pem", "key"):
            (authority.folder / f"server.{end}").symlink_to(authority.folder / f"one.{end}")
        gateway = await serve(
            config(
                upstream,
                f"cert: {authority.folder}/server.pem, key: {authority.folder}/server.key",
            )
        )
        gateway.tls = authority.client()
    else:
        gateway = await secure(serve, authority, upstream)
    async with gateway.connect() as idle, gateway.connect() as busy:
        assert (await idle.request("GET /")).status == 200
        await busy.send(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
        status, _ = await busy.head()
        assert status == 200
        if how == "symlink":
            authority.issue("two", "new.test")
            for end in ("pem", "key"):
                (authority.folder / "next").symlink_to(authority.folder / f"two.{end}")
                (authority.folder / "next").replace(authority.folder / f"server.{end}")
        else:
            authority.issue("server", "new.test")
        if how == "signal":
            assert (await gateway.reload())["message"] == "reloaded"

        async def renewed() -> bool:
            return await presented(gateway.port, authority.client()) == ("new.test",)

        await eventually(renewed)
        assert (await idle.request("GET /")).status == 200
        go_on.set()
        async with asyncio.timeout(BOUND):
            assert len(await busy.reader.readexactly(2000000)) == 2000000
        assert (await busy.request("GET /")).status == 200


async def test_a_pair_that_does_not_fit_leaves_the_old_one_in_use(
    serve: Serve, authority: Authority
) -> None:
    gateway = await secure(serve, authority, None)
    other, _ = authority.issue("other", "new.test")
    other.replace(authority.folder / "server.pem")  # without its key
    line = await gateway.line("changed certificate is not used")
    assert "is not that of the certificate" in line["error"]
    assert await presented(gateway.port, authority.client()) == (NAME,)
    refused = await gateway.reload()
    assert refused["message"] == "reload refused"
    assert "tls.key" in refused["problem"]
    assert await presented(gateway.port, authority.client()) == (NAME,)
    (authority.folder / "other.key").replace(authority.folder / "server.key")  # and now it fits
    await gateway.line("certificates renewed")
    assert await presented(gateway.port, authority.client()) == ("new.test",)


async def test_a_reload_takes_other_files_but_not_the_end_of_tls(
    serve: Serve, authority: Authority
) -> None:
    gateway = await secure(serve, authority, None)
    cert, key = authority.issue("other", "new.test")
    gateway.write_config(config(None, f'cert: {cert}, key: {key}, min_version: "1.3"'))
    assert (await gateway.reload())["message"] == "reloaded"
    assert await presented(gateway.port, authority.client()) == ("new.test",)
    gateway.write_config(config(None, ""))
    after = len(gateway.lines)
    assert (await gateway.reload())["message"] == "reloaded"
    assert (await gateway.line("keys need a restart", after))["keys"][-1] == "tls"
    assert await presented(gateway.port, authority.client()) == ("new.test",)


async def test_no_old_session_passes_a_new_client_ca(
    serve: Serve, authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other")
    gateway = await secure(serve, authority, None, f", client_ca: {authority.file}")
    context = authority.client(authority.issue("client", "client.test"))
    request = b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    first = await look(gateway.port, context, request)
    second = await look(gateway.port, context, request, first.session)
    assert (second.resumed, second.received[:12]) == (True, b"HTTP/1.1 200")
    server = f"cert: {tmp_path}/server.pem, key: {tmp_path}/server.key"
    gateway.write_config(config(None, f"{server}, client_ca: {other.file}"))
    assert (await gateway.reload())["message"] == "reloaded"
    with pytest.raises(ssl.SSLError):
        await look(gateway.port, context, request, second.session)


async def test_a_truncated_answer_is_seen_as_truncated(
    serve: Serve, services: Services, authority: Authority
) -> None:
    async def broken(upstream: Upstream, served: Served) -> None:
        length = b"Content-Length: 10" if "/sized" in served.line else b"Transfer-Encoding: chunked"
        await served.send(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n5\r\n12" % length)
        served.writer.transport.abort()

    (upstream,) = await services(broken)
    gateway = await secure(serve, authority, upstream)
    for target in ("sized", "chunked"):
        request = f"GET /{target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        seen = await look(gateway.port, authority.client(), request.encode())
        assert seen.received.startswith(b"HTTP/1.1 200 ")
        assert not seen.whole


async def test_a_connection_that_the_gateway_closes_ends_with_close_notify(
    serve: Serve, services: Services, authority: Authority
) -> None:
    (upstream,) = await services(answer_ok)
    gateway = await secure(serve, authority, upstream)
    for request, status in (
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", b"200"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400"),  # this one lingers
    ):
        seen = await look(gateway.port, authority.client(), request)
        assert seen.received.startswith(b"HTTP/1.1 " + status)
        assert seen.whole


async def test_twenty_mebibytes_each_way_arrive_unchanged(
    serve: Serve, services: Services, authority: Authority
) -> None:
    block = hashlib.sha256(b"block").digest() * 2048  # 64 KiB
    blocks = 20 * MEBIBYTE // len(block)
    expected = hashlib.sha256(block * blocks).hexdigest()

    async def echo(upstream: Upstream, served: Served) -> None:
        length = int(served.field("content-length")[0])
        await served.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length)
        while length:
            data = await served.reader.read(min(length, 1 << 18))
            length -= len(data)
            await served.send(data)

    (upstream,) = await services(
        echo, tls=authority.server(authority.issue("service", "127.0.0.1"))
    )
    cert, key = authority.issue("server", NAME)
    gateway = await serve(
        'consul_address: ""\nnats_address: ""\nlimits: {body: 64MiB}\n'
        f"services: {{s: {{endpoints: ['{upstream.address}'], protocol: https,"
        f" tls: {{ca: {authority.file}}}}}}}\n"
        "routes: [{name: r, match: {path_prefix: /}, service: s}]\n"
        f"tls: {{cert: {cert}, key: {key}}}\n"
    )
    gateway.tls = authority.client()
    before = memory(gateway)
    async with gateway.connect() as client:
        head = f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {len(block) * blocks}\r\n\r\n"
        await client.send(head.encode())

        async def upload() -> None:
            for _ in range(blocks):
                await client.send(block)

        sender = asyncio.create_task(upload())
        status, _ = await client.head()
        digest = hashlib.sha256()
        left = len(block) * blocks
        async with asyncio.timeout(60):
            while left:
                data = await client.reader.read(1 << 18)
                assert data
                digest.update(data)
                left -= len(data)
            await sender
    assert (status, digest.hexdigest()) == (200, expected)
    assert memory(gateway) - before < 16 * MEBIBYTE


def memory(gateway: RunningGateway) -> int:
    """Resident bytes of the process, from statm (proc(5)) in pages of 4 KiB."""
    return int(Path(f"/proc/{gateway.pid}/statm").read_text().split()[1]) * 4096


async def test_a_client_that_does_not_read_stalls_the_service(
    serve: Serve, services: Services, authority: Authority
) -> None:
    sent = 0
    stalled = asyncio.Event()

    async def endless(upstream: Upstream, served: Served) -> None:
        nonlocal sent
        await served.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while sent < 512 * MEBIBYTE:
            try:
                async with asyncio.timeout(1.0):
                    await served.send(bytes(MEBIBYTE))
            except TimeoutError:
                stalled.set()
                await served.reader.read()
            sent += MEBIBYTE

    (upstream,) = await services(endless)
    gateway = await secure(serve, authority, upstream)
    before = memory(gateway)
    async with gateway.connect() as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        async with asyncio.timeout(BOUND):
            await stalled.wait()
        assert sent < 64 * MEBIBYTE  # the kernel's buffers hold some of it
        assert memory(gateway) - before < 16 * MEBIBYTE
        client.writer.transport.abort()


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00\x01"])
async def test_a_handshake_that_does_not_come_to_an_end_is_closed(
    serve: Serve, authority: Authority, said: bytes
) -> None:
    gateway = await secure(serve, authority, None, rest="limits: {header_timeout: 500ms}\n")
    assert await end_of(gateway.port, said) == b""
    assert await gateway.metric('siger_tls_handshakes_total{outcome="timeout"}') == 1
    assert (await gateway.get("/health/live")).status == 200


async def test_plain_http_is_told_to_use_https(serve: Serve, authority: Authority) -> None:
    gateway = await secure(serve, authority, None)
    got = await end_of(gateway.port, b"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 400 ")
    assert b'"reason":"https_required"' in got
    assert await gateway.metric('siger_local_replies_total{reason="https_required"}') == 1
    assert await gateway.metric('siger_tls_handshakes_total{outcome="plain_http"}') == 1


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x00\x05hello", b"\x16" * 1000, b"\x00\xff"])
async def test_garbage_is_closed_without_a_word_in_the_log(
    serve: Serve, authority: Authority, garbage: bytes
) -> None:
    gateway = await secure(serve, authority, None)
    for _ in range(3):
        await end_of(gateway.port, garbage)
    assert (await gateway.get("/health/live")).status == 200
    assert all(line["level"] == "info" for line in gateway.lines), gateway.lines


async def test_handshaking_connections_count_against_the_limit(
    serve: Serve, authority: Authority
) -> None:
    gateway = await secure(serve, authority, None, rest="limits: {connections: 2}\n")
    _, silent = await asyncio.open_connection("127.0.0.1", gateway.port)
    async with gateway.connect() as client:
        assert (await client.request("GET /health/live")).status == 200
        assert await end_of(gateway.port, b"\x16\x03\x01") == b""
        silent.transport.abort()

        async def again() -> bool:
            try:
                return (await gateway.get("/health/live")).status == 200
            except (ConnectionError, EOFError):
                return False

        await eventually(again)
        text = (await client.request("GET /metrics")).body.decode()
        assert 'siger_tls_handshakes_total{outcome="too_many_connections"}' in text


async def test_a_drain_lets_exchanges_over_tls_finish(
    serve: Serve, services: Services, authority: Authority
) -> None:
    seen, go_on = asyncio.Event(), asyncio.Event()

    async def slow(upstream: Upstream, served: Served) -> None:
        seen.set()
        await go_on.wait()
        await served.ok(b"x" * 100000)

    (upstream,) = await services(slow)
    gateway = await secure(serve, authority, upstream)
    async with gateway.connect() as client:
        asking = asyncio.create_task(client.request("GET /"))
        await seen.wait()
        gateway.send(signal.SIGTERM)
        await gateway.line("draining")
        go_on.set()
        answer = await asking
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await client.at_eof()
    assert await gateway.wait() == 0


async def test_pipelined_and_split_requests_are_all_answered(
    serve: Serve, services: Services, authority: Authority
) -> None:
    (upstream,) = await services(answer_ok)
    gateway = await secure(serve, authority, upstream)
    one = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"

    async def read(client: Client, count: int) -> None:
        for _ in range(count):
            assert (await client.answer()).status == 200

    async with gateway.connect() as client:
        await client.send(one * 200)
        await read(client, 200)
        for byte in one:
            await client.send(bytes([byte]))
        await read(client, 1)


@pytest.mark.parametrize("client_ca", [False, True])
async def test_consul_finds_a_gateway_with_tls_healthy(
    serve: Serve, authority: Authority, client_ca: bool
) -> None:
    cert, key = authority.issue("server", NAME)
    more = f", client_ca: {authority.file}" if client_ca else ""
    with ConsulServer() as consul:
        gateway = await serve(
            f'consul_address: "{consul.address}"\nnats_address: ""\n'
            "register: {name: edge, address: 127.0.0.1}\n"
            f"tls: {{cert: {cert}, key: {key}{more}}}\n"
        )
        await gateway.line("registered in Consul")
        (entry,) = consul.call("GET", "/v1/health/service/edge")
        assert entry["Service"]["Meta"] == {"protocol": "https"}
        (check,) = (one for one in entry["Checks"] if one["ServiceID"])
        assert check["Type"] == ("tcp" if client_ca else "http")
        # Asked now, not after the interval: by a check of the same kind that is run at once.
        definition = (
            {"TCP": f"127.0.0.1:{gateway.port}"}
            if client_ca
            else {"HTTP": f"https://127.0.0.1:{gateway.port}/health/ready", "TLSSkipVerify": True}
        )
        consul.call(
            "PUT", "/v1/agent/check/register", {"Name": "now", "Interval": "100ms", **definition}
        )

        async def passing() -> bool:
            return consul.call("GET", "/v1/agent/checks")["now"]["Status"] == "passing"

        await eventually(passing)


async def test_silent_handshakes_make_room_for_newcomers(
    serve: Serve, authority: Authority
) -> None:
    gateway = await secure(serve, authority, None, rest="limits: {connections: 3}\n")
    silent = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(3)]

    # After AT_REST, and long before header_timeout.
    async def let_in() -> bool:
        try:
            return (await gateway.get("/health/live")).status == 200
        except (ConnectionError, EOFError):
            return False

    await eventually(let_in)
    made_room = await gateway.metric('siger_tls_handshakes_total{outcome="made_room"}')
    assert made_room >= 1
    for _, writer in silent:
        writer.transport.abort()
