"""What Consul's answers mean."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siger_gateway.config.schema import EndpointSpec
from siger_gateway.discovery.answers import (
    CheckState,
    Entry,
    catalog_of,
    changed_services,
    check_states,
    may_empty,
    next_index,
    parse_index,
    parse_instances,
    usable_names,
)


def entry(**overrides: Any) -> Entry:
    """An element of ``/v1/health/service/<name>`` as Consul 1.8 writes it, shortened."""
    service = {
        "ID": "users-1",
        "Service": "users",
        "Tags": None,
        "Address": "10.0.0.1",
        "Meta": None,
        "Port": 9001,
        "Weights": {"Passing": 1, "Warning": 1},
        "EnableTagOverride": False,
        **overrides,
    }
    node = {"ID": "a66", "Node": "vm", "Address": "192.0.2.7", "TaggedAddresses": None}
    checks = [{"Node": "vm", "CheckID": "serfHealth", "Status": "passing", "Output": "alive"}]
    return msgspec.convert({"Node": node, "Service": service, "Checks": checks}, Entry)


def addresses(*entries: Entry) -> list[str]:
    return [one.address for one in parse_instances(entries).endpoints]


def test_an_instance_is_an_endpoint_with_its_passing_weight() -> None:
    found = parse_instances([entry(Weights={"Passing": 7, "Warning": 2})])
    assert found.endpoints == (EndpointSpec("10.0.0.1:9001", 7),)
    assert found.skipped == ()


@pytest.mark.parametrize(
    ("overrides", "protocol"),
    [
        ({}, ""),
        ({"Meta": {"protocol": "https"}}, "https"),
        ({"Meta": {"protocol": "HTTPS"}, "Tags": []}, "https"),
        ({"Tags": ["a", "https"]}, "https"),
        ({"Meta": {"other": "1"}, "Tags": ["https"]}, "https"),
        ({"Meta": {"protocol": "http"}, "Tags": ["https"]}, ""),
        ({"Meta": {"protocol": "grpc"}}, ""),
        ({"Tags": ["https-only"]}, ""),
    ],
)
def test_meta_or_a_tag_says_that_an_instance_speaks_https(
    overrides: dict[str, Any], protocol: str
) -> None:
    assert parse_instances([entry(**overrides)]).endpoints[0].protocol == protocol


@pytest.mark.parametrize("address", ["", "0.0.0.0", "::", "[::]"])
def test_an_address_that_names_no_machine_means_the_nodes(address: str) -> None:
    assert addresses(entry(Address=address)) == ["192.0.2.7:9001"]


def test_ipv6_addresses_get_brackets_once() -> None:
    assert addresses(entry(Address="fd00::1")) == ["[fd00::1]:9001"]
    assert addresses(entry(Address="[fd00::1]")) == ["[fd00::1]:9001"]


def test_host_names_stay_names() -> None:
    assert addresses(entry(Address="users_1.internal")) == ["users_1.internal:9001"]


@pytest.mark.parametrize(
    "broken",
    [{"Port": 0}, {"Port": -1}, {"Port": 65536}, {"Address": "a b"}, {"Address": "10.0.0.256"}],
)
def test_an_instance_that_nobody_can_connect_to_is_left_out_and_named(
    broken: dict[str, Any],
) -> None:
    found = parse_instances([entry(ID="bad", **broken), entry()])
    assert [one.address for one in found.endpoints] == ["10.0.0.1:9001"]
    assert [service_id for service_id, _ in found.skipped] == ["bad"]


def test_without_any_address_the_instance_is_left_out() -> None:
    answer = {"Node": {"Address": ""}, "Service": {"ID": "x", "Port": 1}}
    found = parse_instances([msgspec.convert(answer, Entry)])
    assert found.endpoints == ()
    assert found.skipped == (("x", "neither the service nor its node has an address"),)


def test_the_gateway_itself_is_left_out() -> None:
    found = parse_instances([entry(ID="me"), entry(ID="other", Port=2)], own={"me"})
    assert found.endpoints == (EndpointSpec("10.0.0.1:2", 1),)


@pytest.mark.parametrize(("weight", "taken"), [(0, 1), (-3, 1), (1000, 1000), (65535, 1000)])
def test_weights_stay_in_the_range_of_the_balancers(weight: int, taken: int) -> None:
    found = parse_instances([entry(Weights={"Passing": weight})])
    assert found.endpoints[0].weight == taken


def test_without_weights_the_weight_is_one() -> None:
    assert parse_instances([entry(Weights=None)]).endpoints[0].weight == 1


@given(st.permutations([("a", 1, 1), ("b", 9, 2), ("a", 1, 5), ("a", 2, 1), ("b", 9, 1)]))
def test_the_order_of_the_answer_does_not_matter_and_an_address_counts_once(
    instances: list[tuple[str, int, int]],
) -> None:
    entries = [entry(Address=a, Port=p, Weights={"Passing": w}) for a, p, w in instances]
    assert parse_instances(entries).endpoints == (
        EndpointSpec("a:1", 5),
        EndpointSpec("a:2", 1),
        EndpointSpec("b:9", 2),
    )


@pytest.mark.parametrize(
    "answer", [None, {}, [1], [{"Service": {}}], [{"Node": {}, "Service": {"Port": "80"}}]]
)
def test_an_answer_of_another_shape_is_refused_whole(answer: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(answer, list[Entry])


@pytest.mark.parametrize("status", ["warning", "critical", "maintenance"])
def test_one_check_that_does_not_pass_makes_the_instance_not_pass(status: str) -> None:
    checks = [{"Status": "passing"}, {"Status": status}]
    answer = {"Node": {}, "Service": {}, "Checks": checks}
    assert not msgspec.convert(answer, Entry).passing
    assert msgspec.convert({"Node": {}, "Service": {}, "Checks": None}, Entry).passing


def test_the_index_is_compared_as_a_number() -> None:
    assert next_index(parse_index("9"), parse_index("10")) == 10


def test_an_index_that_went_down_starts_again_without_blocking() -> None:
    assert next_index(500, 20) == 0


def test_an_unchanged_index_is_asked_for_again() -> None:
    assert next_index(20, 20) == 20


def test_an_index_below_one_cannot_make_a_busy_loop() -> None:
    assert parse_index("0") == 1
    assert parse_index("-5") == 1


@pytest.mark.parametrize("text", ["", "x", "1.5", "missing"])
def test_an_index_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        parse_index(text)


@pytest.mark.parametrize(
    ("registered", "held", "believed"),
    [
        (3, 0.0, True),  # all are failing, and Consul knows them
        (0, 0.0, False),  # nothing is there: lost data and lost tokens look like that
        (0, 29.9, False),
        (0, 30.0, True),
        (1, 100.0, True),
    ],
)
def test_an_empty_answer_is_believed_when(registered: int, held: float, believed: bool) -> None:
    assert may_empty(registered, held, 30.0) is believed


def check(service: str, status: str, check_id: str = "c", created: int = 1) -> CheckState:
    return CheckState("vm", status, check_id, service, created)


def test_only_services_whose_checks_differ_have_changed() -> None:
    before = check_states([check("a", "passing"), check("b", "passing"), check("c", "critical")])
    after = check_states([check("d", "passing"), check("b", "critical"), check("c", "critical")])
    assert changed_services(before, after) == {"a", "b", "d"}
    assert changed_services(after, after) == set()


def test_a_check_that_was_made_anew_is_a_change() -> None:
    before, after = (check_states([check("a", "passing", created=n)]) for n in (1, 2))
    assert changed_services(before, after) == {"a"}


def test_the_check_of_a_node_stands_under_no_name() -> None:
    before = check_states([check("", "passing", "serfHealth")])
    assert changed_services(before, check_states([])) == {""}


def test_names_that_cannot_stand_in_a_path_are_not_used() -> None:
    assert usable_names(["users", "a.b_c-1", "a/b", "", " ", "x" * 129, "é"]) == {
        "users",
        "a.b_c-1",
    }


def test_the_catalog_has_the_usable_names_and_their_tags_about_routes() -> None:
    services = {
        "users": ["v1", "siger.path=/u", "siger.host=a", "siger.path=/u", "siger"],
        "orders": [],
        "a/b": ["siger.path=/x"],
    }
    found = catalog_of(services)
    assert list(found.items()) == [("orders", ()), ("users", ("siger.host=a", "siger.path=/u"))]
