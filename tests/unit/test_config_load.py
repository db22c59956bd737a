"""What a good configuration means: values, variables, overrides, old names, files."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from siger_gateway.config.load import (
    MAX_FILE,
    ConfigError,
    Loaded,
    Problem,
    load,
    loads,
)
from siger_gateway.config.policies import AuthConfig, CorsConfig, JwtConfig
from siger_gateway.config.schema import (
    PLANNED,
    RENAMED,
    Config,
    EndpointSpec,
    JobsConfig,
    MatchConfig,
    PoolConfig,
    RouteConfig,
    ServiceConfig,
)

REPOSITORY = Path(__file__).parents[2]
SECRET = "kq3Zr8vN1xYw5tBf7mLd0pHs9uCg2aEj4oRi6nTzXyV"


def config_of(text: str, **environ: str) -> Config:
    """The configuration; fails if there are warnings."""
    loaded = loads(text, "c.yaml", environ)
    assert loaded.warnings == ()
    return loaded.config


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "~", "{}", "\ufeff"])
def test_an_empty_file_means_all_defaults(text: str) -> None:
    assert loads(text, "c.yaml", {}) == Loaded(Config())


def test_every_kind_of_value_arrives_typed() -> None:
    text = """
port: 9000
drain_timeout: 1m30s
trusted_proxies: [10.0.0.0/8, "::1"]
limits: {header_bytes: 64KiB, body: 512, header_timeout: 250ms}
services:
  users:
    endpoints: ["a:1", {address: "[::1]:2", weight: 3}]
    balance: random
    pool: {max_connections: 1}
routes:
  - name: users
    match:
      path: /api/v1/users/{id}
      methods: [GET, PATCH]
      host: "*.example.com"
      headers: {X-Tier: gold}
    service: users
    strip_prefix: /api/v1
    timeout: 1.5s
jobs: {replicas: 3, types: [train, infer]}
access_log: {sample: 1e-2}
"""
    config = config_of(text)
    assert config.port == ":9000"
    assert config.drain_timeout == 90.0
    assert config.trusted_proxies == ("10.0.0.0/8", "::1")
    assert config.limits == dataclasses.replace(
        Config().limits, header_bytes=65536, body=512, header_timeout=0.25
    )
    assert config.services == {
        "users": ServiceConfig(
            endpoints=(EndpointSpec("a:1"), EndpointSpec("[::1]:2", 3)),
            balance="random",
            pool=PoolConfig(max_connections=1),
        )
    }
    match = MatchConfig(
        path="/api/v1/users/{id}",
        methods=("GET", "PATCH"),
        host="*.example.com",
        headers={"x-tier": "gold"},
    )
    assert config.routes == (RouteConfig("users", match, "users", "/api/v1", 1.5),)
    assert config.jobs == JobsConfig(replicas=3, types=("train", "infer"))
    assert config.access_log.sample == 0.01


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("port: 0", ":0"),
        ("port: ':8080'", ":8080"),
        ("port: :8080", ":8080"),
        ("port: '[::1]:8080'", "[::1]:8080"),
        ("port: localhost:8080", "localhost:8080"),
    ],
)
def test_a_listener_takes_a_port_or_an_address(text: str, expected: str) -> None:
    assert config_of(text).port == expected


@pytest.mark.parametrize(
    ("text", "consul", "nats"),
    [
        ("consul_address: ''\nnats_address: ''", "", ""),
        ("consul_address: http://c:8500\nnats_address: nats://n:4222", "c:8500", "n:4222"),
        ("consul_address: '[::1]:8500'\nnats_address: 'a:1, nats://b:2'", "[::1]:8500", "a:1,b:2"),
    ],
)
def test_consul_and_nats_can_be_off_and_drop_their_schemes(
    text: str, consul: str, nats: str
) -> None:
    config = config_of(text)
    assert (config.consul_address, config.nats_address) == (consul, nats)


def test_a_block_with_everything_commented_out_is_empty() -> None:
    text = "routes:\n  # - name: a\nservices:\nlimits:\nexpose_services:\n"
    assert config_of(text) == Config()


def test_anchors_and_merge_keys_work_and_own_keys_win() -> None:
    text = """
services:
  a: &a {consul: a, balance: random, pool: &pool {max_connections: 7}}
  b: {<<: *a, consul: b}
  c: {<<: [{balance: least_connections}, *a], pool: *pool}
"""
    services = config_of(text).services
    pool = PoolConfig(max_connections=7)
    assert services["b"] == ServiceConfig(consul="b", balance="random", pool=pool)
    assert services["c"] == ServiceConfig(consul="a", balance="least_connections", pool=pool)


def test_a_route_may_stand_around_the_gateways_own_paths_but_not_in_them() -> None:
    paths = ["path_prefix: /", "path_prefix: /api/v1", "path: /healthy", "path_prefix: /services"]
    routes = "\n".join(
        f"- {{name: r{n}, service: a, match: {{{path}}}}}" for n, path in enumerate(paths)
    )
    assert len(config_of(f"services: {{a: {{consul: a}}}}\nroutes:\n{routes}\n").routes) == 4


def test_routes_with_the_same_path_may_differ_in_a_predicate() -> None:
    differing = ["", ", methods: [GET]", ", host: a.com", ", headers: {x: a}", ", headers: {x: b}"]
    routes = "\n".join(
        f"- {{name: r{n}, service: a, match: {{path: /a{more}}}}}"
        for n, more in enumerate(differing)
    )
    assert len(config_of(f"services: {{a: {{consul: a}}}}\nroutes:\n{routes}\n").routes) == 5


def test_exposed_services_need_consul_only_for_names_that_are_not_in_the_file() -> None:
    text = "consul_address: ''\nservices: {a: {endpoints: ['a:1']}}\nexpose_services: [a, '*']\n"
    assert config_of(text).expose_services == ("a", "*")
    assert config_of("expose_services: [elsewhere]").expose_services == ("elsewhere",)


# Variables in values


@pytest.mark.parametrize(
    ("value", "environ", "expected"),
    [
        ("${DIR}", {"DIR": "/x"}, "/x"),
        ("a/${DIR}/${DIR}", {"DIR": "x"}, "a/x/x"),
        ("${DIR:/default}", {}, "/default"),
        ("${DIR:/default}", {"DIR": "/x"}, "/x"),
        ("${DIR:/default}", {"DIR": ""}, ""),  # set, to nothing
        ("${DIR:}", {}, ""),
        ("${DIR:a:b}", {}, "a:b"),
        ("$$", {}, "$"),
        ("$${DIR}", {"DIR": "/x"}, "${DIR}"),
        ("$DIR $5", {"DIR": "/x"}, "$DIR $5"),
        ("${DIR}", {"DIR": "${HOME} $$"}, "${HOME} $$"),  # what a variable holds is final
        ("${DIR}", {"DIR": "5"}, "5"),  # text for a text field
    ],
)
def test_variables_expand_inside_of_values(
    value: str, environ: dict[str, str], expected: str
) -> None:
    assert config_of(f"data_dir: '{value}'", **environ).data_dir == expected


def test_a_variable_cannot_add_structure() -> None:
    injected = "x, log_level: debug}"
    config = config_of("{data_dir: '${DIR}', log_level: info}", DIR=injected)
    assert (config.data_dir, config.log_level) == (injected, "info")


@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_an_expanded_value_is_parsed_by_the_type_of_its_field(quote: str) -> None:
    def value(name: str) -> str:
        return f"{quote}${{{name}}}{quote}"

    text = (
        f"port: {value('P')}\ndrain_timeout: {value('D')}\nlimits:\n"
        f"  connections: {value('C')}\n  body: {value('B')}\naccess_log:\n  sample: {value('S')}\n"
    )
    config = config_of(text, P="81", D="5s", C="7", B="1KiB", S="0.5")
    assert (config.port, config.drain_timeout, config.limits.connections) == (":81", 5.0, 7)
    assert (config.limits.body, config.access_log.sample) == (1024, 0.5)


# SIGER_<KEY>


def test_the_environment_overrides_every_top_level_key_with_a_single_value() -> None:
    config = config_of(
        "port: 1\nlog_level: error\nconsul_address: 'file:1'",
        SIGER_PORT="127.0.0.1:81",
        SIGER_CONSUL_ADDRESS="",
        SIGER_CONSUL_TOKEN="a$$b${c}",
        SIGER_NATS_ADDRESS="a:1,b:2",
        SIGER_LOG_LEVEL="debug",
        SIGER_DATA_DIR="/data",
        SIGER_DRAIN_TIMEOUT="1m",
    )
    expected = Config(
        port="127.0.0.1:81",
        consul_address="",
        consul_token="a$$b${c}",
        nats_address="a:1,b:2",
        log_level="debug",
        data_dir="/data",
        drain_timeout=60.0,
    )
    assert config == expected


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("SIGER_PORT", "http", "expected a listen address such as :8080"),
        ("SIGER_PORT", "", 'found ""'),
        ("SIGER_PORT", "tcp://10.0.0.7:8080", "enableServiceLinks"),
        ("SIGER_LOG_LEVEL", "loud", "expected one of debug"),
        ("SIGER_DRAIN_TIMEOUT", "30", "the unit is missing"),
        ("SIGER_NATS_ADDRESS", "a", "the port is missing"),
        ("SIGER_DATA_DIR", "a\nb", "control characters"),
    ],
)
def test_a_bad_override_is_a_problem_of_the_environment(name: str, value: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loads("", "c.yaml", {name: value})
    (problem,) = caught.value.problems
    assert str(problem).startswith(f"environment: {name}: ")
    assert reason in problem.reason


def test_a_bad_token_in_the_environment_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        loads("", "c.yaml", {"SIGER_CONSUL_TOKEN": "s3cret\n"})
    assert "s3cret" not in str(caught.value)


def test_an_override_takes_part_in_the_checks() -> None:
    text = "services: {a: {consul: a}}"
    with pytest.raises(ConfigError, match=r"services\.a\.consul: there is no Consul"):
        loads(text, "c.yaml", {"SIGER_CONSUL_ADDRESS": ""})


def test_unknown_overrides_are_warnings_unless_the_file_refers_to_them() -> None:
    environ = {"SIGER_PROT": "1", "SIGER_ROUTES": "[]", "SIGER_USED": "x", "OTHER": "y"}
    assert loads("data_dir: ${SIGER_USED}", "c.yaml", environ).warnings == (
        Problem("environment", 0, 0, "SIGER_PROT", "ignored: no key has this name", "SIGER_PORT"),
        Problem(
            "environment",
            0,
            0,
            "SIGER_ROUTES",
            "ignored: only keys with a single value can be set from the environment",
        ),
    )


def test_a_reference_in_a_part_that_is_off_counts_as_a_reference() -> None:
    text = "tracing: {otlp_endpoint: '${SIGER_OTLP:}'}"
    assert loads(text, "c.yaml", {"SIGER_OTLP": ""}).warnings == ()


# Old names, and what is planned


def test_old_names_are_understood_with_a_warning_each() -> None:
    text = (
        "consulAddress: 'c:1'\nnatsAddress: 'n:2'\nlogLevel: debug\n"
        f"jwtSecret: {SECRET}\njwtExpiration: 12h\ncorsAllowed: ['https://a.test']\n"
    )
    loaded = loads(text, "c.yaml", {})
    assert loaded.config == Config(
        consul_address="c:1",
        nats_address="n:2",
        log_level="debug",
        auth=AuthConfig(jwt=JwtConfig(secret=SECRET, lifetime=12 * 3600.0)),
        cors=CorsConfig(origins=("https://a.test",)),
    )
    assert [str(warning) for warning in loaded.warnings] == [
        f'c.yaml:{line}:1: {old}: the old name of "{new}"; please rename it'
        for line, (old, new) in enumerate(RENAMED.items(), 1)
    ]


def test_an_old_name_goes_beside_what_stands_under_the_new_one() -> None:
    text = f"auth:\n  jwt: {{issuer: dante}}\n  mtls: false\njwtSecret: {SECRET}\n"
    auth = loads(text, "c.yaml", {}).config.auth
    assert (auth.jwt.issuer, auth.jwt.secret) == ("dante", SECRET)
    with pytest.raises(ConfigError, match="which is in line 1 too"):
        loads(f"auth: {{jwt: {{secret: {SECRET}}}}}\njwtSecret: {SECRET}\n", "c.yaml", {})


def test_old_names_may_be_empty() -> None:
    loaded = loads("jwtSecret: ''\njwtExpiration:\ncorsAllowed: []\n", "c.yaml", {})
    assert loaded.config == Config()
    assert [warning.key for warning in loaded.warnings] == [
        "jwtSecret",
        "jwtExpiration",
        "corsAllowed",
    ]
    assert '"auth.jwt.secret"' in loaded.warnings[0].reason


@pytest.mark.parametrize("off", ["", "''", "~", "none", "false", "0", "[]", "{}", "{a: '', b: []}"])
def test_a_planned_key_that_says_off_is_accepted(off: str) -> None:
    text = (
        f"tracing: {off}\njobs:\n  submit_subject: {off}\n"
        "services:\n  a:\n    consul: a\n"
        f"routes:\n- name: r\n  match: {{path: /a}}\n  service: a\n  mirror: {off}\n"
    )
    assert config_of(text).routes[0].name == "r"


def test_planned_keys_are_really_not_in_the_schema() -> None:
    classes = {one.__name__: one for one in (Config, ServiceConfig, RouteConfig, JobsConfig)}
    for name, keys in PLANNED.items():
        assert not keys & {one.name for one in dataclasses.fields(classes[name])}


# Files


def failure(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    return str(caught.value)


def test_a_file_loads_and_names_itself_in_problems(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xef\xbb\xbfport: 1\r\nlog_level: debug\r\n")
    assert load(path, {}).config == Config(port=":1", log_level="debug")
    path.write_text("\nport: x\n")
    assert failure(path).startswith(f"{path}:2:7: port: expected a listen address")


def test_a_missing_file_a_directory_and_a_bad_name_are_problems(tmp_path: Path) -> None:
    assert failure(tmp_path / "no.yaml") == f"{tmp_path}/no.yaml: there is no such file"
    assert failure(tmp_path) == f"{tmp_path}: this is a directory, not a file"
    (tmp_path / "f").touch()
    assert "cannot be read: Not a directory" in failure(tmp_path / "f" / "c.yaml")
    assert "this is not a file name" in failure(Path("a\0b"))


def test_an_unreadable_file_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.touch(mode=0)
    user = os.geteuid()
    if user == 0:  # root reads everything: be nobody for a moment
        os.seteuid(65534)
    try:
        assert "cannot be read: Permission denied" in failure(path)
    finally:
        os.seteuid(user)


def test_a_file_that_is_not_utf_8_is_a_problem_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"port: 1\ndata_dir: \xe4\n")
    assert failure(path) == f"{path}:2:11: not UTF-8: byte 0xe4"


def test_a_file_past_the_limit_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"#" * (MAX_FILE + 1))
    assert failure(path) == f"{path}: larger than 4MiB"


def test_the_example_in_the_repository_is_valid_and_has_no_warnings() -> None:
    loaded = load(REPOSITORY / "configs" / "config.yaml", {})
    assert loaded.warnings == ()
    by_name = {route.name: route for route in loaded.config.routes}
    assert by_name["providers"].match.path_prefix == "/api/v1/providers"
    assert by_name["providers"].strip_prefix == "/api/v1"
    assert by_name["objects"].service == "storage-service"
    assert {service.consul for service in loaded.config.services.values()} == {
        "provider-registry",
        "scheduler-orchestrator",
        "storage-service",
    }
