"""What a service is told about its client: Host, X-Forwarded-*, Forwarded and Via."""

from __future__ import annotations

import pytest

from tests.conftest import Serve, Services
from tests.running import Upstream, answer_ok


def proxied(upstream: Upstream, service: str = "", rest: str = "") -> str:
    return (
        'consul_address: ""\nnats_address: ""\n'
        f'services: {{s: {{endpoints: ["{upstream.address}"]{service}}}}}\n'
        f"routes: [{{name: r, match: {{path_prefix: /}}, service: s}}]\n{rest}"
    )


@pytest.mark.parametrize(
    ("host_header", "host"),
    [
        ("", "gateway.test"),
        (", host_header: preserve", "gateway.test"),
        (", host_header: endpoint", "<endpoint>"),
        (", host_header: shop.internal", "shop.internal"),
        (', host_header: "shop.internal:8443"', "shop.internal:8443"),
    ],
)
async def test_a_service_gets_the_host_that_it_is_configured_to_get(
    serve: Serve, services: Services, host_header: str, host: str
) -> None:
    (upstream,) = await services(answer_ok)
    gateway = await serve(proxied(upstream, host_header))
    assert (await gateway.get("/")).status == 200
    async with gateway.connect() as client:
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert (await client.answer()).status == 200
    with_host, without_host = upstream.served
    expected = host.replace("<endpoint>", upstream.address)
    assert with_host.field("host") == [expected]
    assert with_host.field("x-forwarded-host") == ["gateway.test"]
    assert without_host.field("host") == ["" if host == "gateway.test" else expected]


async def test_what_a_trusted_proxy_says_reaches_the_service_and_the_access_log(
    serve: Serve, services: Services
) -> None:
    (upstream,) = await services(answer_ok)
    gateway = await serve(proxied(upstream, rest='trusted_proxies: ["127.0.0.1", "::1"]\n'))
    said = 'for="[2001:db8::7]";proto=https;host=shop.example'
    answer = await gateway.get("/", f"Forwarded: {said}", "Via: 1.1 edge")
    served = upstream.served[-1]
    assert served.field("forwarded") == [f"{said}, for=127.0.0.1;proto=http;host=gateway.test"]
    assert served.field("x-forwarded-for") == ["2001:db8::7, 127.0.0.1"]
    assert served.field("x-forwarded-proto") == ["https"]
    assert served.field("x-forwarded-host") == ["shop.example"]
    assert served.field("via") == ["1.1 edge", "1.1 siger"]
    line = await gateway.access(answer.headers["x-request-id"])
    assert line["client"] == "2001:db8::7"


async def test_a_service_that_is_the_gateway_itself_is_a_loop_that_ends(
    serve: Serve, services: Services
) -> None:
    (upstream,) = await services(answer_ok)
    gateway = await serve(proxied(upstream))
    gateway.write_config(proxied(Upstream(answer_ok, gateway.port)))
    await gateway.reload()
    answer = await gateway.get("/")
    assert (answer.status, answer.json["reason"]) == (508, "loop_detected")
    assert "error=proxy_loop_detected" in answer.headers["proxy-status"]
    assert (await gateway.get("/health")).status == 200
