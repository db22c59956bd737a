"""What routes do beside forwarding to one service, through a real gateway process."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter

from tests.conftest import Serve, Services
from tests.running import Served, Upstream, answer_ok

CHUNKED = "Transfer-Encoding: chunked"


def config(routes: str, rest: str = "", **upstreams: Upstream) -> str:
    services = ", ".join(
        f'{name}: {{endpoints: ["{upstream.address}"]}}' for name, upstream in upstreams.items()
    )
    return (
        f'consul_address: ""\nnats_address: ""\nservices: {{{services}}}\nroutes:\n{routes}\n{rest}'
    )


async def test_a_split_divides_requests_by_weight_and_names_the_service_that_was_chosen(
    serve: Serve, services: Services
) -> None:
    old, new, idle = await services(answer_ok, answer_ok, answer_ok)
    gateway = await serve(
        config(
            "- {name: r, match: {path_prefix: /}, split: [{service: old, weight: 75}, "
            "{service: new, weight: 25}, {service: idle, weight: 0}]}",
            old=old,
            new=new,
            idle=idle,
        )
    )
    requests = 400
    answers: Counter[str] = Counter()
    async with gateway.connect() as client:
        for _ in range(requests):
            answer = await client.request("GET /x")
            answers[answer.body.decode()] += 1
    assert not idle.served
    assert answers == {str(old.port): len(old.served), str(new.port): len(new.served)}
    # Eight standard deviations of a binomial distribution: sqrt(400 * 0.75 * 0.25) = 8.7.
    assert abs(len(new.served) - requests // 4) < 70
    line = await gateway.access(answer.headers["x-request-id"])
    assert line["route"] == "r"
    assert line["service"] == ("old" if answer.body.decode() == str(old.port) else "new")
    for name, upstream in (("old", old), ("new", new)):
        series = f'siger_upstream_requests_total{{outcome="2xx",service="{name}"}}'
        assert await gateway.metric(series) == len(upstream.served)


async def test_a_dead_half_of_a_split_fails_its_share_and_no_other(
    serve: Serve, services: Services
) -> None:
    (alive,) = await services(answer_ok)
    gateway = await serve(
        'consul_address: ""\nnats_address: ""\n'
        f'services: {{a: {{endpoints: ["{alive.address}"]}}, b: {{endpoints: ["127.0.0.1:1"]}}}}\n'
        "routes: [{name: r, match: {path_prefix: /}, split: [{service: a}, {service: b}]}]\n"
    )
    answers = [await gateway.get("/") for _ in range(60)]
    assert Counter(answer.status for answer in answers).keys() == {200, 502}
    assert len(alive.served) == sum(answer.status == 200 for answer in answers)


async def test_paths_are_rewritten_and_nothing_else_of_the_target(
    serve: Serve, services: Services
) -> None:
    (upstream,) = await services(answer_ok)
    gateway = await serve(
        config(
            "- {name: p, match: {path_prefix: /old}, service: s, rewrite: /new/v2}\n"
            "- {name: t, match: {path: '/users/{id}'}, service: s, rewrite: '/v2/people/{id}'}",
            s=upstream,
        )
    )
    for target, seen in (
        ("/old/a%2Fb/../c?x=/old", None),
        ("/old/a%2Fb//c;d?x=/old&%41", "/new/v2/a%2Fb//c;d?x=/old&%41"),
        ("/old", "/new/v2"),
        ("//%6fld/%61?", "/new/v2/a?"),
        ("/users/%61%2F;x?id=/1", "/v2/people/%61%2F;x?id=/1"),
        ("//users//7", "/v2/people/7"),
    ):
        answer = await gateway.get(target)
        assert answer.status == (200 if seen else 400)
        assert not seen or upstream.served[-1].line == f"GET {seen} HTTP/1.1"


async def chatty(upstream: Upstream, served: Served) -> None:
    """Answers in chunks, with fields and a trailer that say who it is; takes one trailer only."""
    rest = b"3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n"
    assert await served.reader.readexactly(len(rest)) == rest
    await served.send(
        b"HTTP/1.1 200 OK\r\nServer: secret/1.0\r\nX-Powered-By: PHP\r\nCache-Control: public\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nServer: secret/1.0\r\nX-T: 1\r\n\r\n"
    )


async def test_header_fields_are_edited_both_ways_and_framing_stays(
    serve: Serve, services: Services
) -> None:
    (upstream,) = await services(chatty)
    gateway = await serve(
        config(
            "- name: r\n"
            "  match: {path_prefix: /}\n"
            "  service: s\n"
            "  headers:\n"
            "    request: {set: {Host: inner.test, x-env: prod}, add: {accept: text/b},\n"
            "              remove: [Cookie, x-admin]}\n"
            "    response: {set: {cache-control: no-store}, add: {x-frame-options: DENY},\n"
            "               remove: [server, x-powered-by]}",
            s=upstream,
        )
    )
    async with gateway.connect() as client:
        for _ in range(2):
            await client.send(
                b"POST / HTTP/1.1\r\nHost: gateway.test\r\nX-Env: dev\r\nX_Env: dev\r\n"
                b"Cookie: a\r\nCookie: b\r\nX-Admin: 1\r\nX_Admin: 1\r\nAccept: text/a\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Admin: 1\r\nX-Sum: 1\r\n\r\n"
            )
            status, headers = await client.head()
            assert status == 200
            body = await client.reader.readuntil(b"\r\n\r\n")
            assert body == b"2\r\nok\r\n0\r\nx-t: 1\r\n\r\n"
            assert headers["cache-control"] == "no-store"
            assert headers["x-frame-options"] == "DENY"
            assert headers["transfer-encoding"] == "chunked"
            assert not {"server", "x-powered-by"} & headers.keys()
            served = upstream.served[-1]
            assert served.field("host") == ["inner.test"]
            assert served.field("x-forwarded-host") == ["gateway.test"]
            assert served.field("x-env") == ["prod"]
            assert served.field("accept") == ["text/a", "text/b"]
            names = {name for name, _ in served.fields}
            assert not {"cookie", "x-admin", "x_admin", "x_env"} & names
    assert upstream.connections == 1  # the framing of both messages was right


async def test_local_error_replies_are_not_edited(serve: Serve, services: Services) -> None:
    gateway = await serve(
        'consul_address: ""\nnats_address: ""\n'
        'services: {s: {endpoints: ["127.0.0.1:1"]}}\n'
        "routes: [{name: r, match: {path_prefix: /}, service: s,"
        " headers: {response: {set: {content-type: text/html}}}}]\n"
    )
    answer = await gateway.get("/")
    assert answer.headers["content-type"] == "application/problem+json"


ANSWERS = """
- {name: go, match: {path_prefix: /old}, redirect: {prefix: /, status: 308},
   headers: {response: {set: {cache-control: max-age=60}}}}
- {name: tls, match: {path_prefix: /tls}, redirect: {scheme: https}}
- {name: person, match: {path: '/u/{id}'}, redirect: {path: '/people/{id}', strip_query: true,
   status: 301}}
- name: robots
  match: {path: /robots.txt}
  direct_response: {status: 200, body: "User-agent: *\\nDisallow: /\\n"}
- {name: gone, match: {path_prefix: /gone}, direct_response: {status: 410, body: '{}',
   content_type: application/json}}
- {name: nothing, match: {path: /nothing}, direct_response: {status: 204}}
"""


async def test_redirects_and_direct_responses_answer_without_a_service(serve: Serve) -> None:
    gateway = await serve(config(ANSWERS))
    async with gateway.connect() as client:
        for line, status, location in (
            ("GET /old/x%2Fy?q=1", 308, "/x%2Fy?q=1"),
            ("GET /old//evil.test/x", 308, "/evil.test/x"),
            ("HEAD /tls/a?b", 307, "https://gateway.test/tls/a?b"),
            ("GET /u/a%2Fb?q", 301, "/people/a%2Fb"),
        ):
            answer = await client.request(line)
            assert (answer.status, answer.headers.get("location")) == (status, location)
            assert answer.headers["content-length"] == "0"
            assert answer.headers["x-request-id"]
        robots = await client.request("GET /robots.txt")
        assert robots.body == b"User-agent: *\nDisallow: /\n"
        assert robots.headers["content-type"] == "text/plain; charset=utf-8"
        assert (await client.request("HEAD /robots.txt")).headers["content-length"] == "26"
        gone = await client.request("DELETE /gone/x")
        assert (gone.status, gone.json) == (410, {})
        assert gone.headers["content-type"] == "application/json"
        nothing = await client.request("GET /nothing")
        assert nothing.status == 204
        assert "content-length" not in nothing.headers
    assert (await gateway.get("/old")).headers["cache-control"] == "max-age=60"
    assert (await gateway.get("/u/a..%2F")).headers["location"] == "/people/a..%2F"
    line = await gateway.access(gone.headers["x-request-id"])
    assert (line["route"], line["service"], line["status"]) == ("gone", "", 410)
    assert "reason" not in line or not line["reason"]
    series = 'siger_http_requests_total{code="410",method="DELETE",route="gone"}'
    assert await gateway.metric(series) == 1


async def test_a_small_request_body_leaves_the_connection_usable(serve: Serve) -> None:
    gateway = await serve(config(ANSWERS))
    async with gateway.connect() as client:
        whole = await client.request("POST /old", body=b"x" * 1000)
        assert whole.status == 308
        await client.send(
            b"POST /gone HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )
        assert (await client.head())[0] == 100
        await client.send(b"ab")
        await client.send(b"cdeGET /nothing HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await client.answer()).status == 410
        assert (await client.answer()).status == 204
        chunked = b"4\r\nwiki\r\n0\r\n\r\n"
        await client.send(f"PUT /old HTTP/1.1\r\nHost: h\r\n{CHUNKED}\r\n\r\n".encode() + chunked)
        answer = await client.answer()
        assert (answer.status, "connection" in answer.headers) == (308, False)
        assert (await client.request("GET /nothing")).status == 204


async def test_a_large_request_body_is_not_awaited_and_ends_the_connection(serve: Serve) -> None:
    gateway = await serve(config(ANSWERS))
    for head in ("Content-Length: 1000000", CHUNKED):
        async with gateway.connect() as client:
            await client.send(f"POST /old/x HTTP/1.1\r\nHost: h\r\n{head}\r\n\r\n".encode())
            answer = await client.answer()
            assert (answer.status, answer.headers["location"]) == (308, "/x")
            assert answer.headers["connection"] == "close"
            assert await client.at_eof()


async def test_a_body_that_breaks_off_or_is_malformed_is_accounted_once(serve: Serve) -> None:
    gateway = await serve(config(ANSWERS))
    async with gateway.connect() as client:
        await client.send(
            b"POST /gone HTTP/1.1\r\nHost: h\r\nX-Request-ID: left\r\nContent-Length: 9\r\n\r\nab"
        )
    line = await gateway.access("left")
    assert (line["status"], line["reason"], line["route"]) == (499, "downstream_closed", "gone")
    assert await gateway.metric("siger_http_requests_in_flight") <= 1  # this very question


async def test_a_trusted_proxy_says_how_the_client_came(serve: Serve) -> None:
    routes = "- {name: r, match: {path_prefix: /}, redirect: {port: 8443}}"
    believing = await serve(config(routes, 'trusted_proxies: ["127.0.0.0/8"]\n'))
    told = ("X-Forwarded-Proto: https", "X-Forwarded-Host: public.test:443")
    answer = await believing.get("/a", *told)
    assert answer.headers["location"] == "https://public.test:8443/a"
    odd = await believing.get("/a", "X-Forwarded-Proto: javascript", "X-Forwarded-Host: a/b")
    assert odd.headers["location"] == "http://gateway.test:8443/a"
    other = await serve(config(routes))
    assert (await other.get("/a", *told)).headers["location"] == "http://gateway.test:8443/a"


async def test_a_redirect_that_needs_a_host_refuses_a_request_without(serve: Serve) -> None:
    gateway = await serve(config(ANSWERS))
    async with gateway.connect() as client:
        await client.send(b"GET /tls HTTP/1.0\r\n\r\n")
        answer = await client.answer()
        assert (answer.status, answer.json["reason"]) == (400, "bad_request")


async def test_actions_are_reloaded(serve: Serve, services: Services) -> None:
    (upstream,) = await services(answer_ok)
    gateway = await serve(config("- {name: r, match: {path_prefix: /a}, service: s}", s=upstream))
    async with gateway.connect() as client:
        assert (await client.request("GET /a")).status == 200
        gateway.write_config(
            config("- {name: r, match: {path_prefix: /a}, redirect: {path: /b}}", s=upstream)
        )
        assert (await gateway.reload())["message"] == "reloaded"
        assert (await client.request("GET /a")).headers["location"] == "/b"
        gateway.write_config(config("- {name: r, match: {path_prefix: /a}, redirect: {}}"))
        assert (await gateway.reload())["message"] == "reload refused"
        assert (await client.request("GET /a")).headers["location"] == "/b"


async def test_the_routes_command_shows_every_action(serve: Serve) -> None:
    gateway = await serve(config(ANSWERS))
    command = [sys.executable, "-m", "siger_gateway", "routes", "--json", "--config"]
    shown = await asyncio.to_thread(
        subprocess.check_output, [*command, str(gateway.config_path)], timeout=30
    )
    rows = {row["name"]: row for row in json.loads(shown)}
    assert rows["go"]["to"] == "308 /*"
    assert rows["go"]["changes"] == "response: set cache-control"
    assert rows["robots"]["to"] == "200 (fixed)"
    assert rows["person"]["from"] == "file"
