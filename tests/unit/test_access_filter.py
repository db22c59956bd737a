"""Which addresses may come: compared with what ``ipaddress`` says of the same lists."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siger_gateway.errors import GatewayError
from siger_gateway.filters import access as module
from siger_gateway.filters.access import MAX_KNOWN, access_filter
from siger_gateway.filters.filter import Call, Filter
from siger_gateway.filters.networks import Networks, address_of
from siger_gateway.http.message import Request

NO_STREAM: Any = None  # this filter looks at the address alone
REQUEST = Request(b"GET", b"/", [], True)


def passes(access: Filter, client: str) -> bool:
    verdict = access(Call(REQUEST, client, b"http", NO_STREAM))
    if verdict is None:
        return True
    assert isinstance(verdict, GatewayError)
    assert (verdict.reason, verdict.status) == ("address_denied", 403)
    return False


@pytest.mark.parametrize(
    ("allow", "deny", "client", "expected"),
    [
        ([], [], "192.0.2.1", True),
        (["10.0.0.0/8"], [], "10.255.255.255", True),
        (["10.0.0.0/8"], [], "11.0.0.0", False),
        (["10.0.0.0/8"], [], "9.255.255.255", False),
        ([], ["10.0.0.0/8"], "10.0.0.1", False),
        ([], ["10.0.0.0/8"], "11.0.0.0", True),
        (["10.0.0.0/8"], ["10.0.0.0/16"], "10.0.0.1", False),
        (["10.0.0.0/8"], ["10.0.0.0/16"], "10.1.0.1", True),
        (["10.0.0.7"], ["10.0.0.0/8"], "10.0.0.7", False),
        (["192.0.2.7"], [], "192.0.2.7", True),
        (["192.0.2.7"], [], "192.0.2.8", False),
        (["0.0.0.0/0"], [], "203.0.113.9", True),
        (["0.0.0.0/0"], [], "2001:db8::1", False),
        (["::/0"], [], "2001:db8::1", True),
        (["::/0"], [], "203.0.113.9", False),
        (["fd00::/8"], [], "fd12::1", True),
        (["fd00::/8"], [], "FD12:0:0::1", True),
        (["fd00::/8"], [], "fe00::1", False),
        (["2001:db8::7"], [], "2001:db8:0:0:0:0:0:7", True),
    ],
)
def test_deny_wins_and_allow_excludes_the_rest(
    allow: list[str], deny: list[str], client: str, expected: bool
) -> None:
    access = access_filter(allow, deny)
    assert passes(access, client) is expected
    assert passes(access, client) is expected  # as remembered


@pytest.mark.parametrize("network", ["10.0.0.0/8", "::ffff:10.0.0.0/104", "::ffff:a00:0/104"])
@pytest.mark.parametrize("client", ["10.1.2.3", "::ffff:10.1.2.3", "::FFFF:0a01:0203"])
def test_ipv4_in_ipv6_is_ipv4(network: str, client: str) -> None:
    assert passes(access_filter([network], []), client)
    assert not passes(access_filter([], [network]), client)


def test_ipv4_in_ipv6_does_not_get_past_the_lists() -> None:
    assert not passes(access_filter(["::/0"], []), "::ffff:10.1.2.3")
    assert passes(access_filter([], ["::/0"]), "::ffff:10.1.2.3")
    assert not passes(access_filter([], ["::ffff:0:0/96"]), "10.1.2.3")


@pytest.mark.parametrize("network", ["fe80::/10", "fe80::1", "fe80::1%eth1"])
@pytest.mark.parametrize("client", ["fe80::1%eth0", "fe80::1", "fe80::1%2"])
def test_the_zone_of_an_address_does_not_count(network: str, client: str) -> None:
    assert passes(access_filter([network], []), client)
    assert not passes(access_filter([], [network]), client)


@pytest.mark.parametrize(
    "client",
    [
        *("", "unknown", "_hidden", "unix:", "/run/x.sock", "10.0.0.1:80", "[::1]", "10.0.0"),
        *("fe80::1%", "010.0.0.1", "0x0a000001", " 10.0.0.1", "10.0.0.1\n", "167772161"),
        *("10.0.0.1/8", "\u0661.1.1.1"),
    ],
)
def test_a_client_without_a_readable_address_is_refused_by_any_list(client: str) -> None:
    for access in (access_filter(["0.0.0.0/0", "::/0"], []), access_filter([], ["192.0.2.1"])):
        assert not passes(access, client)
        assert not passes(access, client)
    assert passes(access_filter([], []), client)


addresses = st.one_of(
    st.ip_addresses(),
    # Near each other, or lists and clients hardly ever meet.
    st.integers(0, 31).map(lambda low: IPv4Address(0x0A00_0000 + low)),
    st.integers(0, 31).map(lambda low: IPv6Address((0xFD << 120) + low)),
    st.integers(0, 31).map(lambda low: IPv6Address(0xFFFF_0A00_0000 + low)),
)
"""Of both families, and of IPv4 in IPv6."""


@st.composite
def networks(draw: st.DrawFn) -> str:
    address = draw(addresses)
    longest = address.max_prefixlen
    length = draw(st.one_of(st.integers(0, longest), st.integers(longest - 6, longest)))
    return str(ip_network((address, length), strict=False))


def plain(text: str) -> IPv4Address | IPv6Address:
    address = ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address


def holds(network: str, address: IPv4Address | IPv6Address) -> bool:
    """What ``ipaddress`` says, of networks of IPv4 in IPv6 too."""
    if isinstance(address, IPv4Address):
        mapped = ip_network(network)
        as_ipv6 = IPv6Address(0xFFFF_0000_0000 + int(address))
        return address in mapped or (mapped.prefixlen >= 96 and as_ipv6 in mapped)
    return address in ip_network(network)


lists = st.lists(networks(), max_size=5)


@given(lists, lists, st.lists(addresses.map(str), min_size=1, max_size=10))
def test_the_verdict_is_that_of_ipaddress(
    allow: list[str], deny: list[str], clients: list[str]
) -> None:
    access = access_filter(allow, deny)
    for client in clients + clients:
        address = plain(client)
        denied = any(holds(network, address) for network in deny)
        allowed = not allow or any(holds(network, address) for network in allow)
        assert passes(access, client) is (allowed and not denied)


@given(networks())
def test_a_network_holds_its_ends_and_not_what_is_next_to_them(text: str) -> None:
    network = ip_network(text)
    found = Networks([text])
    for end in (network[0], network[-1]):
        address = address_of(str(end))
        assert address is not None
        assert (address in found) is holds(text, plain(str(end)))
    for step, end in ((-1, network[0]), (1, network[-1])):
        if 0 <= int(end) + step < 2**network.max_prefixlen:
            beside = address_of(str(end + step))
            assert beside is not None
            assert beside not in found


@given(st.text(max_size=40))
def test_any_text_as_a_client_gets_a_verdict(client: str) -> None:
    passes(access_filter(["10.0.0.0/8"], []), client)


@pytest.mark.parametrize("network", ["", "10.0.0.0/33", "example.com", "10.0.0.1:80"])
def test_what_is_no_network_is_refused_when_the_route_is_compiled(network: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        access_filter([network], [])


def test_each_refusal_is_an_error_of_its_own() -> None:
    access = access_filter([], ["10.0.0.1"])
    first, second = (access(Call(REQUEST, "10.0.0.1", b"http", NO_STREAM)) for _ in range(2))
    assert first is not second  # whoever answers may add header fields to it


def test_clients_that_come_back_are_not_judged_again(monkeypatch: pytest.MonkeyPatch) -> None:
    access = access_filter(["10.0.0.0/8"], [])
    assert passes(access, "10.0.0.1")
    assert not passes(access, "11.0.0.1")
    monkeypatch.setattr(module, "address_of", None)
    assert passes(access, "10.0.0.1")
    assert not passes(access, "11.0.0.1")


def test_strangers_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[str] = []

    def counting(client: str) -> IPv4Address | IPv6Address | None:
        judged.append(client)
        return address_of(client)

    monkeypatch.setattr(module, "address_of", counting)
    access = access_filter(["10.0.0.0/8"], [])
    for number in range(MAX_KNOWN + 1):  # the last one makes room by forgetting all others
        assert not passes(access, f"203.0.{number >> 8}.{number & 255}")
    assert passes(access, "10.1.2.3")
    judged.clear()
    assert not passes(access, "203.0.0.0")
    assert passes(access, "10.1.2.3")
    assert judged == ["203.0.0.0"]
