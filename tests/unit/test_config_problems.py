"""Every way to get a configuration wrong: where the problem is reported, and in which words.

The texts are rows of one table: name, YAML, then the expected line, key path and a part of the
reason. ``BASE`` gives rows about routes and services something valid to stand on.
"""

from __future__ import annotations

import pytest

from siger_gateway.config.load import ConfigError, Problem, loads

SERVICES = "services: {users: {consul: users}, orders: {endpoints: ['127.0.0.1:9001']}}\n"


def route(text: str) -> str:
    """A file whose only route is ``text``, which begins in line 2, column 4."""
    return f"{SERVICES}routes: [{text}]\n"


def match(text: str) -> str:
    """A file whose only route has this match, in line 2."""
    return route(f"{{name: r, service: users, match: {{{text}}}}}")


def action(text: str) -> str:
    """A file whose only route, with a template, does this, in line 2."""
    return route(f"{{name: r, match: {{path: '/a/{{x}}'}}, {text}}}")


def request_headers(text: str) -> str:
    """A file whose only route edits requests like this, in line 2."""
    at = "name: r, service: users, match: {path: /a}"
    return route(f"{{{at}, headers: {{request: {{{text}}}}}}}")


def service(text: str) -> str:
    """A file whose only service is ``s``, in line 1."""
    return f"services: {{s: {{{text}}}}}\n"


def problems_of(text: str, environ: dict[str, str] | None = None) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        loads(text, "c.yaml", environ or {})
    return caught.value.problems


# fmt: off
BAD: list[tuple[str, str, int, str, str]] = [
    # YAML itself
    ("unclosed list", "port: 1\nroutes: [", 2, "", "not valid YAML"),
    ("tab as indent", "limits:\n\tbody: 1", 2, "", "not valid YAML"),
    ("bare variable in a flow mapping", "access_log: {path: ${X}}", 1, "", "in quotes"),
    ("control character", "port: 1\n\x00", 2, "", "U+0000 is not allowed"),
    ("escape past Unicode", r'data_dir: "\UFFFFFFFF"', 1, "", "not valid YAML"),
    ("two documents", "port: 1\n---\nport: 2", 2, "", "not valid YAML"),
    ("undefined alias", "port: 1\nroutes: *r", 2, "", "undefined alias"),
    ("recursive alias", "port: 1\nroutes: &r [*r]", 2, "", "inside of its own anchor"),
    ("deep nesting", "routes: " + "[" * 1000, 1, "", "nested deeper than 64"),
    ("list at the top", "- port: 1", 1, "", "expected a mapping, found a list"),
    ("text at the top", "hello", 1, "", 'expected a mapping, found the string "hello"'),
    ("duplicate key", "port: 1\nlog_level: info\nport: 2", 3, "port", "already in line 1"),
    ("duplicate nested key", "jobs:\n  stream: a\n  stream: b", 3, "jobs.stream", "in line 2"),
    ("key that is a list", "? [a]\n: 1", 1, "", "a key must be text"),
    ("merge of a scalar", "limits:\n  <<: 5", 2, "limits.<<", "a merge key needs a mapping"),
    ("custom tag", "port: !secret 1", 1, "port", "tag !secret has no meaning"),
    ("python tag", "port: !!python/name:os.system ''", 1, "port", "!!python/name:os.system"),
    # keys
    ("unknown key", "prot: 1", 1, "prot", "unknown key"),
    ("unknown key in a route",
     SERVICES + "routes:\n  - name: r\n    service: users\n    match:\n      pth: /a",
     6, "routes[0].match.pth", "unknown key"),
    ("key without a near name", "zzz: 1", 1, "zzz", "unknown key"),
    ("key that begins a terminal escape", 'port: 1\n"\\e[31m": 1', 2, "\\x1b[31m", "unknown key"),
    ("missing name", route("{service: users, match: {path: /a}}"),
     2, "routes[0].name", "this key is required"),
    ("missing match", route("{name: r, service: users}"), 2, "routes[0].match", "required"),
    ("missing address", service("endpoints: [{weight: 3}]"),
     1, "services.s.endpoints[0].address", "required"),
    # shapes
    ("mapping for a list", "routes: {a: 1}", 1, "routes", "expected a list, found a mapping"),
    ("scalar for a list", "trusted_proxies: 10.0.0.0/8", 1, "trusted_proxies", "expected a list"),
    ("list for a mapping", "services: [a]", 1, "services", "expected a mapping, found a list"),
    ("list for a scalar", "port: [1]", 1, "port", "expected a single value, found a list"),
    ("number for a record", "limits: 5", 1, "limits", "expected a mapping, found the number 5"),
    ("number for a route", "routes:\n  - 5", 2, "routes[0]", "expected a mapping"),
    ("the same element twice", "trusted_proxies:\n  - ::1\n  - ::1",
     3, "trusted_proxies[1]", "already in line 2"),
    # scalars
    ("nothing", "port:", 1, "port", "found nothing; remove the key"),
    ("boolean for a number", "limits: {connections: true}",
     1, "limits.connections", "expected a whole number, found the boolean true"),
    ("quoted yes for a number", "limits: {connections: 'yes'}",
     1, "limits.connections", 'expected a whole number, found the string "yes"'),
    ("quoted number", "limits: {connections: '5'}",
     1, "limits.connections", "write it without quotes"),
    ("fraction for a whole number", "jobs: {ledger_jobs: 1.5}",
     1, "jobs.ledger_jobs", "expected a whole number, found the number 1.5"),
    ("octal number", "jobs: {ledger_jobs: 010}", 1, "jobs.ledger_jobs", "decimal digits"),
    ("sexagesimal number", "jobs: {ledger_jobs: 1:30}", 1, "jobs.ledger_jobs", "decimal digits"),
    ("endless number", f"jobs: {{ledger_jobs: {'9' * 5000}}}", 1, "jobs.ledger_jobs", "decimal"),
    ("number for a name", "jobs: {stream: 5}", 1, "jobs.stream", "put it in quotes"),
    ("unquoted no for a name", "jobs: {stream: no}", 1, "jobs.stream", "found the boolean no"),
    ("number for text", "data_dir: 5", 1, "data_dir", "expected a string, found the number 5"),
    ("date for text", "data_dir: 2024-01-01", 1, "data_dir", "found the date 2024-01-01"),
    ("control character in text", r'data_dir: "a\nb"', 1, "data_dir", "control characters"),
    ("lone surrogate", r'data_dir: "\ud800"', 1, "data_dir", "control characters"),
    ("text for a share", "access_log: {sample: all}", 1, "access_log.sample", "expected a number"),
    ("not a number", "access_log: {sample: .nan}", 1, "access_log.sample", "expected a number"),
    ("unknown level", "log_level: warn", 1, "log_level", "one of debug, info, warning or error"),
    ("duration without a unit", "drain_timeout: 30", 1, "drain_timeout", "the unit is missing"),
    ("duration with a wrong unit", "drain_timeout: 30sec", 1, "drain_timeout", "250ms, 30s, 5m"),
    ("negative duration", "drain_timeout: -1s", 1, "drain_timeout", "expected a duration"),
    ("endless duration", "drain_timeout: 999999999h", 1, "drain_timeout", "ten years"),
    ("size in decimal units", "limits: {body: 10MB}", 1, "limits.body", "of 1024 each"),
    ("size with a fraction", "limits: {body: 1.5MiB}", 1, "limits.body", "expected a size"),
    ("endless size", "limits: {body: 9999999TiB}", 1, "limits.body", "larger than 1024TiB"),
    # ranges
    ("no connections", "limits: {connections: 0}", 1, "limits.connections", "at least 1, found 0"),
    ("zero timeout", "limits: {header_timeout: 0s}", 1, "limits.header_timeout", "at least 1ms"),
    ("zero body", "limits: {body: 0}", 1, "limits.body", "at least 1, found 0"),
    ("zero weight", service("endpoints: [{address: 'a:1', weight: 0}]"),
     1, "services.s.endpoints[0].weight", "between 1 and 1000, found 0"),
    ("large weight", service("endpoints: [{address: 'a:1', weight: 1001}]"),
     1, "services.s.endpoints[0].weight", "between 1 and 1000"),
    ("sample above one", "access_log: {sample: 1.5}", 1, "access_log.sample", "0.0 and 1.0"),
    ("two replicas", "jobs: {replicas: 2}", 1, "jobs.replicas", "one of 1, 3 or 5, found 2"),
    ("no pool", service("consul: a, pool: {max_connections: 0}"),
     1, "services.s.pool.max_connections", "at least 1"),
    # addresses and networks
    ("port past the end", "port: 65536", 1, "port", "from 0 to 65535"),
    ("port with a star", "port: '*:80'", 1, "port", "without a host"),
    ("bare IPv6", "port: ::1:80", 1, "port", "in brackets"),
    ("port 0 of a service", service("endpoints: ['a:0']"),
     1, "services.s.endpoints[0]", "from 1 to 65535"),
    ("address without a port", "nats_address: localhost", 1, "nats_address", "port is missing"),
    ("address with a scheme", "consul_address: https://a:8500/", 1, "consul_address", "no scheme"),
    ("credentials", "nats_address: nats://u:p@a:4222", 1, "nats_address", "credentials"),
    ("gap in a list", "nats_address: 'a:1,,b:2'", 1, "nats_address", "between two commas"),
    ("bad IPv4", service("endpoints: ['300.0.0.1:80']"),
     1, "services.s.endpoints[0]", "no IPv4 address"),
    ("bad host", service("endpoints: ['a b:80']"), 1, "services.s.endpoints[0]", "no host name"),
    ("bad host header", service("endpoints: ['a:80'], host_header: a b"),
     1, "services.s.host_header", "no host name"),
    ("host header with a path", service("endpoints: ['a:80'], host_header: a/b"),
     1, "services.s.host_header", "no host name"),
    ("bare IPv6 as host header", service("endpoints: ['a:80'], host_header: '::1'"),
     1, "services.s.host_header", "brackets"),
    ("host header in capitals", service("endpoints: ['a:80'], host_header: Endpoint"),
     1, "services.s.host_header", "endpoint"),
    ("no header fields", "limits: {header_count: 0}", 1, "limits.header_count", "1"),
    ("no host", service("endpoints: [':80']"), 1, "services.s.endpoints[0]", "host is missing"),
    ("network with host bits", "trusted_proxies: [10.0.0.1/8]",
     1, "trusted_proxies[0]", "bits outside of its mask"),
    ("no network", "trusted_proxies: [nowhere]", 1, "trusted_proxies[0]", "expected a network"),
    # paths and matches
    ("relative path", match("path: a"), 2, "routes[0].match.path", 'begins with "/"'),
    ("trailing slash", match("path_prefix: /a/"), 2, "routes[0].match.path_prefix", "is empty"),
    ("dot segment", match("path: /a/%2E%2e/b"), 2, "routes[0].match.path", "dot segments"),
    ("encoded for nothing", match("path: /%61dmin"), 2, "routes[0].match.path", "in capitals"),
    ("an encoded @", match("path: /users/%40me"), 2, "routes[0].match.path", "in capitals"),
    ("small digits", match("path: /stra%c3%9fe"), 2, "routes[0].match.path", "in capitals"),
    ("query", match("path: '/a?b=c'"), 2, "routes[0].match.path", "query or fragment"),
    ("wildcard", match("path_prefix: /a/*"), 2, "routes[0].match.path_prefix", "no wildcard"),
    ("not encoded", match("path: /ä"), 2, "routes[0].match.path", "written as %XX"),
    ("template in a prefix", match("path_prefix: '/a/{b}'"),
     2, "routes[0].match.path_prefix", "only match.path can hold"),
    ("half a template", match("path: '/a/{b'"), 2, "routes[0].match.path", "whole segment"),
    ("template in a segment", match("path: '/a/x{b}'"), 2, "routes[0].match.path", "whole segment"),
    ("name twice", match("path: '/{a}/{a}'"), 2, "routes[0].match.path", "stands in it twice"),
    ("path and prefix", match("path: /a, path_prefix: /b"), 2, "routes[0].match", "has both"),
    ("neither path nor prefix", match("methods: [GET]"), 2, "routes[0].match", "has neither"),
    ("lower-case method", match("path: /a, methods: [get]"),
     2, "routes[0].match.methods[0]", "case-sensitive"),
    ("bad method", match("path: /a, methods: ['G T']"),
     2, "routes[0].match.methods[0]", "expected an HTTP method"),
    ("upper-case host", match("path: /a, host: API.example.com"),
     2, "routes[0].match.host", "lower case"),
    ("host with a port", match("path: /a, host: 'a.com:80'"), 2, "routes[0].match.host", "no part"),
    ("star inside of a host", match("path: /a, host: 'a.*.com'"),
     2, "routes[0].match.host", "whole first label"),
    ("bad header name", match("path: /a, headers: {'x y': b}"),
     2, "routes[0].match.headers.x y", "expected a header field name"),
    ("header name twice", match("path: /a, headers: {A: b, a: b}"),
     2, "routes[0].match.headers.a", "the same name as in line 2"),
    ("header value that is a number", match("path: /a, headers: {x: 5}"),
     2, "routes[0].match.headers.x", "put it in quotes"),
    # between values
    ("unknown service", route("{name: r, service: user, match: {path: /a}}"),
     2, "routes[0].service", 'there is no service "user"'),
    ("neither consul nor endpoints", "services:\n  s:\n    balance: random",
     2, "services.s", 'needs "consul" or "endpoints"'),
    ("consul and endpoints", service("consul: a, endpoints: ['a:1']"), 1, "services.s", "exclude"),
    ("service name with a dot", "services: {a.b: {consul: a}}", 1, "services.a.b", "letters"),
    ("consul name with a slash", service("consul: a/b"), 1, "services.s.consul", "a service name"),
    ("endpoint twice", "services:\n  s:\n    endpoints:\n    - A:1\n    - {address: 'a:1'}",
     5, "services.s.endpoints[1]", "the same address as in line 4"),
    ("strip of half a segment",
     route("{name: r, service: users, match: {path: /api/v1}, strip_prefix: /ap}"),
     2, "routes[0].strip_prefix", "in whole segments"),
    ("strip of nothing", route("{name: r, service: users, match: {path: /a}, strip_prefix: /}"),
     2, "routes[0].strip_prefix", "strips nothing"),
    ("rewrite and strip", route(
        "{name: r, service: users, match: {path_prefix: /a}, strip_prefix: /a, rewrite: /b}"),
     2, "routes[0].rewrite", "exclude each other"),
    ("rewrite of nothing", route(
        "{name: r, service: users, match: {path_prefix: /}, rewrite: /}"),
     2, "routes[0].rewrite", "changes nothing"),
    ("rewrite with an unknown name", route(
        "{name: r, service: users, match: {path: '/a/{x}'}, rewrite: '/b/{y}'}"),
     2, "routes[0].rewrite", "match.path has no {y}"),
    ("rewrite of a prefix with a name", route(
        "{name: r, service: users, match: {path_prefix: /a}, rewrite: '/b/{y}'}"),
     2, "routes[0].rewrite", "match.path has no {y}"),
    # actions
    ("no action", route("{name: r, match: {path: /a}}"),
     2, "routes[0]", "exactly one of service, split, redirect, direct_response; it has none"),
    ("two actions", action("service: users, split: [{service: users}]"),
     2, "routes[0]", "it has service and split"),
    ("redirect beside a service",
     route("{name: r, match: {path: /a}, service: users, redirect: {path: /b}}"),
     2, "routes[0]", "it has service and redirect"),
    ("empty redirect", route("{name: r, match: {path: /a}, redirect: {}}"),
     2, "routes[0]", "it has none"),
    ("split of an unknown service", action("split: [{service: users}, {service: order}]"),
     2, "routes[0].split[1].service", 'there is no service "order"'),
    ("split of one service twice", action("split: [{service: users}, {service: users}]"),
     2, "routes[0].split[1].service", "stands in it twice"),
    ("split without weight", action("split: [{service: users, weight: 0}]"),
     2, "routes[0].split", "every weight is 0"),
    ("negative weight", action("split: [{service: users, weight: -1}]"),
     2, "routes[0].split[0].weight", "between 0 and 10000"),
    ("redirect to itself", action("redirect: {status: 301}"),
     2, "routes[0].redirect", "leads to where it comes from"),
    ("redirect to the same path", action("redirect: {path: '/a/{x}'}"),
     2, "routes[0].redirect.path", "leads to where it comes from"),
    ("redirect to path and prefix", action("redirect: {path: /b, prefix: /c, host: h}"),
     2, "routes[0].redirect", "exclude each other"),
    ("redirect of a prefix that is none", action("redirect: {prefix: /c}"),
     2, "routes[0].redirect.prefix", "no match.path_prefix"),
    ("redirect with an unknown name", action("redirect: {path: '/b/{y}'}"),
     2, "routes[0].redirect.path", "match.path has no {y}"),
    ("redirect with a status of its own", action("redirect: {path: /b, status: 300}"),
     2, "routes[0].redirect.status", "one of 301, 302"),
    ("redirect to a scheme that runs code", action("redirect: {scheme: javascript}"),
     2, "routes[0].redirect.scheme", "one of keep, http or https"),
    ("redirect to a URL as a host", action("redirect: {host: 'https://x'}"),
     2, "routes[0].redirect.host", "a host without port"),
    ("redirect to any host", action("redirect: {host: '*.x'}"),
     2, "routes[0].redirect.host", "can only be matched"),
    ("redirect with a query", action("redirect: {path: '/b?c'}"),
     2, "routes[0].redirect.path", "query or fragment"),
    ("redirect that strips", action("redirect: {path: /b}, strip_prefix: /a"),
     2, "routes[0].strip_prefix", "a redirect forwards no path"),
    ("redirect that edits a request",
     action("redirect: {path: /b}, headers: {request: {remove: [x]}}"),
     2, "routes[0].headers.request", "sends no request"),
    ("redirect that is tried again", action("redirect: {path: /b}, retry: {attempts: 2}"),
     2, "routes[0].retry", "needs no second try"),
    ("direct response without a status", action("direct_response: {body: x}"),
     2, "routes[0].direct_response.status", "between 200 and 599, found 0"),
    ("direct response that is none", action("direct_response: {status: 101}"),
     2, "routes[0].direct_response.status", "between 200 and 599, found 101"),
    ("body of a status without one", action("direct_response: {status: 204, body: x}"),
     2, "routes[0].direct_response.body", "a response with status 204 has none"),
    ("line break in a content type",
     action(r'direct_response: {status: 200, content_type: "a\r\nb: c"}'),
     2, "routes[0].direct_response.content_type", "control characters"),
    ("line break in a field value", request_headers(r'set: {x: "a\r\nevil: 1"}'),
     2, "routes[0].headers.request.set.x", "control characters"),
    ("field value of other letters", request_headers("set: {x: é}"),
     2, "routes[0].headers.request.set.x", "only printable ASCII"),
    ("empty field value", request_headers("add: {x: ''}"),
     2, "routes[0].headers.request.add.x", "it is empty"),
    ("bad field name", request_headers("remove: ['a:b']"),
     2, "routes[0].headers.request.remove[0]", "a header field name"),
    ("edit of a field that frames", request_headers("set: {Content-Length: 5}"),
     2, "routes[0].headers.request.set.content-length", "about the connection"),
    ("edit of a field under another spelling", request_headers("remove: [x_user-id]"),
     2, "routes[0].headers.request.remove[0]", "the gateway itself"),
    ("second Host", request_headers("add: {host: a}"),
     2, "routes[0].headers.request.add.host", "exactly one Host"),
    ("no Host", request_headers("remove: [host]"),
     2, "routes[0].headers.request.remove[0]", "exactly one Host"),
    ("bad Host", request_headers("set: {host: a/b}"),
     2, "routes[0].headers.request.set.host", "no host name"),
    ("set and removed", request_headers("set: {x: a}, remove: [X]"),
     2, "routes[0].headers.request.remove[0]", "set or added as well"),
    ("response edit of a field that frames",
     route("{name: r, service: users, match: {path: /a}, "
           "headers: {response: {remove: [transfer-encoding]}}}"),
     2, "routes[0].headers.response.remove[0]", "about the connection"),
    ("template that could take an own endpoint", match("path: '/api/{v}/jobs/{id}'"),
     2, "routes[0].match.path", "/api/v1/jobs is an endpoint"),
    ("own endpoint", match("path: /health/ready"), 2, "routes[0].match.path", "gateway itself"),
    ("own endpoint as a prefix", match("path_prefix: /metrics"),
     2, "routes[0].match.path_prefix", "/metrics is an endpoint"),
    ("own service of gRPC", match("path_prefix: /siger.jobs.v1.Jobs"),
     2, "routes[0].match.path_prefix", "gateway itself"),
    ("below an own endpoint", match("path: '/api/v1/jobs/{id}'"),
     2, "routes[0].match.path", "/api/v1/jobs is an endpoint"),
    ("below /services", "expose_services: [users]\n" + match("path_prefix: /services/users"),
     3, "routes[0].match.path_prefix", "/services is an endpoint"),
    ("route name twice",
     SERVICES + "routes:\n- {name: r, service: users, match: {path: /a}}\n"
     "- {name: r, service: users, match: {path: /b}}",
     4, "routes[1].name", 'the route in line 3 has the name "r" already'),
    ("match twice",
     SERVICES + "routes:\n- {name: a, service: users, match: {path: '/{x}', methods: [A, B]}}\n"
     "- {name: b, service: orders, match: {path: '/{y}', methods: [B, A]}}",
     4, "routes[1].match", 'route "b" matches the same requests as route "a" in line 3'),
    ("consul service without Consul", "consul_address: ''\nservices:\n  s:\n    consul: a",
     4, "services.s.consul", "consul_address is empty"),
    ("exposed without Consul", "consul_address: ''\nexpose_services: [a]",
     2, "expose_services[0]", "and no Consul"),
    ("exposed name with a slash", "expose_services: [a/b]", 1, "expose_services[0]", "expected"),
    # consistent hashing
    ("hashing on nothing", service("consul: a, balance: consistent_hash"),
     1, "services.s.balance", 'consistent_hash needs "hash_on": client_ip, path, header:NAME or'),
    ("a hash key for another policy", service("consul: a, hash_on: path"),
     1, "services.s.hash_on", "only for balance: consistent_hash, which is round_robin"),
    ("unknown hash key", service("consul: a, balance: consistent_hash, hash_on: ip"),
     1, "services.s.hash_on", "expected client_ip, path, header:NAME or cookie:NAME"),
    ("hash key without a name", service("consul: a, balance: consistent_hash, hash_on: 'header:'"),
     1, "services.s.hash_on", "the name is missing"),
    ("hash key with a bad name",
     service("consul: a, balance: consistent_hash, hash_on: 'cookie:a b'"),
     1, "services.s.hash_on", "that is no name"),
    ("slow start without a unit", service("consul: a, slow_start: 30"),
     1, "services.s.slow_start", "the unit is missing"),
    ("health check of nothing", service("consul: a, health_check: {interval: 5s}"),
     1, "services.s.health_check", 'needs "path", or "type: tcp"'),
    ("health check with a path of no use",
     service("consul: a, health_check: {type: tcp, path: /a}"),
     1, "services.s.health_check", 'takes neither "path" nor "host"'),
    ("health check of a bad kind", service("consul: a, health_check: {type: udp}"),
     1, "services.s.health_check.type", "one of http, tcp or grpc"),
    ("health check of gRPC over HTTP/1.1",
     service("endpoints: ['a:1'], health_check: {type: grpc}"),
     1, "services.s.health_check", 'needs "protocol: h2c" or "h2"'),
    ("health check of gRPC with a path",
     service("consul: a, health_check: {type: grpc, path: /a}"),
     1, "services.s.health_check", 'takes no "path"'),
    ("service of a health check that is none of gRPC",
     service("consul: a, health_check: {type: tcp, service: a.B}"),
     1, "services.s.health_check", '"service" is for "type: grpc"'),
    ("outlier without a rule", service("consul: a, outlier: {eject_for: 5s}"),
     1, "services.s.outlier", 'needs "errors" or "stdev_factor"'),
    ("ejection longer than the longest", service("consul: a, outlier: {errors: 5, eject_for: 10m}"),
     1, "services.s.outlier", '"max_eject_for" is shorter than "eject_for"'),
    ("no percentage", service("consul: a, outlier: {errors: 5, max_ejected: 50}"),
     1, "services.s.outlier.max_ejected", "the % is missing"),
    ("too high a percentage", service("consul: a, outlier: {errors: 5, max_ejected: 101%}"),
     1, "services.s.outlier.max_ejected", "more than 100%"),
    ("too low a percentage", service("consul: a, outlier: {errors: 5, max_ejected: 0%}"),
     1, "services.s.outlier.max_ejected", "between 1% and 100%, found 0%"),
    # retries
    ("retry on a word", route("{name: r, service: users, match: {path: /a}, retry: {on: [5xx]}}"),
     2, "routes[0].retry.on[0]", 'connect, reset, a status from 400 to 599, or a code of gRPC'),
    ("retry on success", route("{name: r, service: users, match: {path: /a}, retry: {on: [200]}}"),
     2, "routes[0].retry.on[0]", "expected connect, reset, a status"),
    ("an attempt as long as all",
     route("{name: r, service: users, match: {path: /a}, timeout: 5s,"
           " retry: {per_try_timeout: 5s}}"),
     2, "routes[0].retry.per_try_timeout", "has to be shorter than the route's timeout, 5s"),
    # not yet
    ("planned section", "tracing: {otlp_endpoint: a}", 1, "tracing", "not supported yet"),
    ("planned section with a missing variable", "tracing: {otlp_endpoint: '${SIGER_OTLP}'}",
     1, "tracing", "not supported yet"),
    ("planned key of a route",
     route("{name: r, service: users, match: {path: /a}, mirror: {service: users}}"),
     2, "routes[0].mirror", "not supported yet"),
    ("planned key of jobs", "jobs: {submit_subject: jobs.submitted}",
     1, "jobs.submit_subject", "not supported yet"),
    # old names
    ("old and new name", "consul_address: 'a:1'\nconsulAddress: 'a:1'",
     2, "consulAddress", 'the old name of "consul_address", which is in line 1 too'),
    ("old expiration", "jwtExpiration: 60", 1, "auth.jwt.lifetime", "the unit is missing"),
    ("old origins", "corsAllowed: ['a.test']", 1, "cors.origins", "the scheme is missing"),
    ("bad value under an old name", "logLevel: loud", 1, "log_level", "one of debug"),
    # variables
    ("missing variable", "data_dir: a/${NO_SUCH}/b", 1, "data_dir", "NO_SUCH is not set"),
    ("malformed variable", "data_dir: '${NO-SUCH}'", 1, "data_dir", "${NO-SUCH} is not a variable"),
    ("unclosed variable", "data_dir: '${NO'", 1, "data_dir", "is not a variable"),
    ("bad default", "port: ${P:x}", 1, "port", 'found "x" (from ${P:x})'),
]
# fmt: on


@pytest.mark.parametrize(
    ("text", "line", "key", "reason"), [row[1:] for row in BAD], ids=[row[0] for row in BAD]
)
def test_one_mistake_is_one_problem_with_its_line_key_and_reason(
    text: str, line: int, key: str, reason: str
) -> None:
    found = problems_of(text)
    assert [(one.line, one.key) for one in found] == [(line, key)]
    assert reason in found[0].reason
    assert str(found[0]).startswith(f"c.yaml:{line}:{found[0].column}: {key}")


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [
        ("prot: 1", "port"),
        ("consul_adress: ''", "consul_address"),
        ("zzz: 1", ""),
        ("log_level: warn", "warning"),
        ("drain_timeout: 30", "30s"),
        ("limits: {body: 10MB}", "10MiB"),
        ("trusted_proxies: [10.0.0.1/8]", "10.0.0.0/8"),
        ("consul_address: https://a:8500/", "a:8500"),
        (match("path_prefix: /a//b/"), "/a/b"),
        (match("path: /a, methods: [get]"), "GET"),
        (match("path: /a, host: A.com"), "a.com"),
        (route("{name: r, service: user, match: {path: /a}}"), "users"),
        (route("{name: r, service: users, match: {pth: /a}}"), "path"),
    ],
)
def test_a_problem_suggests_the_nearest_valid_name_or_value(text: str, suggestion: str) -> None:
    (problem,) = problems_of(text)
    assert problem.suggestion == suggestion
    assert str(problem).endswith(f'; did you mean "{suggestion}"?') == bool(suggestion)


def test_a_problem_reads_as_file_line_column_key_reason_suggestion() -> None:
    text = SERVICES + "routes:\n  - name: r\n    service: users\n    match: {pth: /a}\n"
    (problem,) = problems_of(text)
    assert str(problem) == 'c.yaml:5:13: routes[0].match.pth: unknown key; did you mean "path"?'


def test_all_problems_come_at_once_in_file_order() -> None:
    text = "log_level: loud\nport: x\nlimits: {body: 0}\nroutes: [{name: a}]\nnope: 1\n"
    found = problems_of(text, {"SIGER_DRAIN_TIMEOUT": "soon"})
    assert [(one.file, one.line, one.key) for one in found] == [
        ("c.yaml", 1, "log_level"),
        ("c.yaml", 2, "port"),
        ("c.yaml", 3, "limits.body"),
        ("c.yaml", 4, "routes[0].match"),
        ("c.yaml", 5, "nope"),
        ("environment", 0, "SIGER_DRAIN_TIMEOUT"),
    ]


def test_what_only_follows_from_another_mistake_is_not_reported() -> None:
    text = (
        "services: {s: {consul: 5}}\n"
        "routes:\n"
        "- {nmae: a, service: s, match: {path: bad}}\n"
        "- {name: a, servce: s, match: {path_prefix: /b, headers: {x: 1}}}\n"
        "- {name: c, service: s, match: {path_prefix: /b}}\n"
    )
    assert [(one.line, one.key) for one in problems_of(text)] == [
        (1, "services.s.consul"),
        (3, "routes[0].nmae"),
        (3, "routes[0].match.path"),
        (4, "routes[1].servce"),
        (4, "routes[1].match.headers.x"),
    ]


def test_an_alias_bomb_is_refused_quickly() -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 40)]
    (problem,) = problems_of("\n".join(rows))
    assert (problem.line, problem.reason) == (6, "more than 200000 values, aliases expanded")


def test_a_merge_bomb_is_refused_quickly() -> None:
    rows = ["big: &big {" + ", ".join(f"k{n}: 1" for n in range(2000)) + "}"]
    rows += [f"m{n}: {{<<: *big}}" for n in range(2000)]
    (problem,) = problems_of("\n".join(rows))
    assert "merge keys expanded" in problem.reason


def test_a_chain_of_aliases_deeper_than_the_limit_is_refused() -> None:
    rows = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 2000)]
    (problem,) = problems_of("\n".join(rows))
    assert "nested deeper than 64 levels, aliases expanded" in problem.reason


def test_a_secret_is_never_in_a_message() -> None:
    (problem,) = problems_of("consul_token: '${TOKEN}'", {"TOKEN": "s3cret\n"})
    assert problem.key == "consul_token"
    assert "s3cret" not in str(problem)
    text = "auth: {default: required, jwt: {secret: s3cret}}"
    (problem,) = problems_of(text)
    assert problem.key == "auth.jwt.secret"
    assert "s3cret" not in str(problem)


def test_a_long_value_is_cut_in_the_message() -> None:
    (problem,) = problems_of(f"log_level: {'x' * 10_000}")
    assert len(str(problem)) < 250
