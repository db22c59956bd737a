"""Consistent hashing: requests with the same key go to the same endpoint, on every gateway.

It is a ring of points (Karger 1997; libketama): an endpoint has points by its weight at places
that only its address tells, and a key belongs to the first point after its own place. So a key
moves only if its endpoint leaves, or to an endpoint that joins, and on a retry it goes where it
would belong if the endpoint that failed had left. Maglev's table looks up faster, but moves some
keys between endpoints that stay, has no next one for a retry, and is filled by a loop in Python:
0.1 s here for 1,000 endpoints and 65,537 entries, at every change.

Sorting all points of 1,000 endpoints would stop the event loop for as long. So the ring is cut into
sectors, each a small ring of its own, sorted when its first key comes: 2.5 ms at a time. Endpoints
that are not in use, or warming up, keep their points and are stepped over: changes of health and
slow start sort nothing.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Iterable, Sequence, Set
from hashlib import blake2b, shake_128
from itertools import chain
from struct import unpack
from typing import TYPE_CHECKING, Final
from zlib import crc32

from siger_gateway.http.headers import find_all
from siger_gateway.http.message import Request
from siger_gateway.upstream.slow_start import WARM

if TYPE_CHECKING:
    from siger_gateway.upstream.cluster import Endpoint

POINTS: Final = 256
"""Points of an endpoint whose weight is the greatest, rounded up to a power of two; others have
fewer by their weight. Shares differ from those by weight with a standard deviation of
1 / sqrt(points), here 6 %."""

SECTORS: Final = 64
"""Parts of the ring: a power of two."""

HashKey = Callable[[Request, str], bytes | None]
"""The key of a request from this client address; None when the request has none."""


def make_hash_key(hash_on: str) -> HashKey:
    """``client_ip``, ``path``, ``header:NAME`` or ``cookie:NAME``, as the configuration has it."""
    kind, _, name = hash_on.partition(":")
    wanted = name.encode()
    if kind == "header":
        return lambda request, client: request.fields.get(wanted) or None
    if kind == "cookie":
        return lambda request, client: find_cookie(request, wanted)
    if kind == "path":
        return lambda request, client: request.path
    return lambda request, client: client.encode()


def find_cookie(request: Request, name: bytes) -> bytes | None:
    """The value of the first cookie ``name`` (RFC 6265 section 4.2.1); None for an empty one."""
    if b"cookie" in request.fields:
        for pairs in find_all(request.headers, b"cookie"):
            for pair in pairs.split(b";"):
                key, _, value = pair.partition(b"=")
                if key.strip() == name:
                    return value.strip() or None
    return None


class Ring:
    """The points of a table of endpoints.

    :param endpoints: all of the table, in use or not, in any order.
    """

    __slots__ = ("_sectors", "_shares", "members", "usable")

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        table = tuple(endpoints)
        self.members = members_of(table)
        self.usable: Set[Endpoint] = frozenset(table)
        """The endpoints that may be picked."""
        # By the heaviest, rounded up to a power of two, and by nothing else: a scale that followed
        # the number of endpoints or the sum of weights would move keys at every change of it.
        scale = 1 << (max((endpoint.weight for endpoint in table), default=1) - 1).bit_length()
        self._shares = [
            (endpoint, endpoint.address.encode(), max(1, POINTS * endpoint.weight // scale))
            for endpoint in table
        ]
        self._sectors: list[tuple[list[int], list[Endpoint]] | None] = [None] * SECTORS

    def pick(self, key: bytes, tried: Sequence[Endpoint]) -> Endpoint | None:
        """The first usable endpoint at or after the place of ``key`` that is not in ``tried``;
        None when there is none. A sector may have none, as endpoints of little weight have few
        points: then the key's next sector is asked, in an order of the key's own."""
        usable = self.usable
        place = int.from_bytes(blake2b(key, digest_size=8).digest(), "little")
        number = place % SECTORS
        step = place // SECTORS | 1  # odd, so that it leads to every sector
        for _ in range(SECTORS):
            points, owners = self._sectors[number] or self._sort(number)
            start = bisect(points, place)
            for index in chain(range(start, len(points)), range(start)):
                owner = owners[index]
                if owner in usable and owner not in tried and _is_warm(owner, points[index]):
                    return owner
            if all(owner in tried for owner in usable):
                break  # no other sector has one: none is sorted for nothing
            number = (number + step) % SECTORS
        return None

    def _sort(self, number: int) -> tuple[list[int], list[Endpoint]]:
        """Makes one sector. The points of an endpoint are dealt out to the sectors in turn, from
        one that its address tells: otherwise all that have few would meet in the same ones."""
        digests: list[bytes] = []
        owners: list[Endpoint] = []
        suffix = b" %d" % number
        for endpoint, address, count in self._shares:
            turn = (number - crc32(address)) % SECTORS
            here = (count - turn + SECTORS - 1) // SECTORS
            digests.append(shake_128(address + suffix).digest(8 * here))
            owners += [endpoint] * here
        # In 64 bits, the chance that two of 256,000 points share a place is 2 in 10^9.
        places = dict(zip(unpack(f"<{len(owners)}Q", b"".join(digests)), owners, strict=True))
        points = sorted(places)
        sector = points, [places[point] for point in points]
        self._sectors[number] = sector
        return sector


def members_of(endpoints: Iterable[Endpoint]) -> Set[tuple[Endpoint, int]]:
    """What a ring depends on: two tables with the same members have the same ring."""
    return frozenset((endpoint, endpoint.weight) for endpoint in endpoints)


def _is_warm(endpoint: Endpoint, point: int) -> bool:
    """Whether the endpoint is warm enough for this point of its. It gets them one after the other,
    so that each key moves to it once."""
    # The lowest bits of a point have no part in where it stands.
    return endpoint.warmth == WARM or point % WARM < endpoint.warmth
