"""Whether an address lies in one of some networks, on plain integers.

A network is two integers, per family, made once: with 100 networks that takes a third of what
``ipaddress`` takes. An IPv4 address that has come as an IPv6 one (``::ffff:10.0.0.1``, RFC 4291
section 2.5.5.2) is the IPv4 address, in networks too; so ``::/0`` holds all of IPv6 and none of
IPv4. A zone (``fe80::1%eth0``, RFC 4007) says on which link an address is, and is not compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

IPAddress = IPv4Address | IPv6Address


def address_of(text: str) -> IPAddress | None:
    """The address that ``text`` is, without port; IPv4 for a mapped one. None: it is not one."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


class Networks:
    """A set of addresses that never changes.

    :param networks: addresses and networks in CIDR notation. Bits outside of a mask do not count.
    :raises ValueError: if one is neither.
    """

    __slots__ = ("_v4", "_v6")

    def __init__(self, networks: Iterable[str]) -> None:
        v4: list[tuple[int, int]] = []
        v6: list[tuple[int, int]] = []
        for text in networks:
            network = ip_network(text, strict=False)
            first, mask = int(network.network_address), int(network.netmask)
            if isinstance(network.network_address, IPv4Address):
                v4.append((first, mask))
            elif network.network_address.ipv4_mapped is not None:  # then it is a /96 or longer
                v4.append((first & 0xFFFF_FFFF, mask & 0xFFFF_FFFF))
            else:
                v6.append((first, mask))
        self._v4 = tuple(v4)
        self._v6 = tuple(v6)

    def __bool__(self) -> bool:
        return bool(self._v4 or self._v6)

    def __contains__(self, address: IPAddress) -> bool:
        """Whether one of the networks holds ``address``, which comes from ``address_of``."""
        number = int(address)
        networks = self._v4 if isinstance(address, IPv4Address) else self._v6
        return any(number & mask == first for first, mask in networks)
