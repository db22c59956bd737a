"""Who the client is, and the header fields that tell a service about it.

``X-Forwarded-*`` from a client is a claim. It is believed only when the connection comes from one
of ``trusted_proxies``; otherwise it is removed, so that a service behind the gateway can rely on
what it sees. The same goes, always, for the identity fields that only the gateway may set.
"""

from __future__ import annotations

from binascii import hexlify
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import product
from random import getrandbits
from typing import Final

from siger_gateway.http1.headers import HOP_BY_HOP, NEVER_DROPPED, Headers, find_all
from siger_gateway.http1.message import Request
from siger_gateway.http1.stream import DownstreamStream

VIA: Final = (b"via", b"1.1 siger")
"""RFC 9110 section 7.6.3; a proxy that sees its own name knows of a loop."""

TE_TRAILERS: Final[Headers] = [(b"te", b"trailers"), (b"connection", b"te")]
"""Said to the service in the client's place: trailers are passed on, codings are not."""

IDENTITY: Final = frozenset({b"x-user-id", b"x-user-role"})


def _spellings(*names: bytes) -> set[bytes]:
    """``names``, with each hyphen also as an underscore: a service that reads header fields as
    CGI variables (RFC 3875 section 4.1.18) cannot tell ``x_user-id`` from ``x-user-id``."""
    return {
        b"".join(part + mark for part, mark in zip(name.split(b"-"), (*marks, b""), strict=True))
        for name in names
        for marks in product((b"-", b"_"), repeat=name.count(b"-"))
    }


NOT_FORWARDED: Final = (
    HOP_BY_HOP
    | {b"expect", b"forwarded"}
    | _spellings(*IDENTITY, b"x-request-id", b"x-real-ip", b"x-forwarded-for")
    | _spellings(b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port")
)
"""Request fields that the gateway removes, or replaces by its own."""

NOT_IN_TRAILERS: Final = (
    NOT_FORWARDED | NEVER_DROPPED | {b"authorization", b"cookie", b"trailer", b"via"}
)
"""Trailer fields of a request that end here: after the head has been acted on, they would say who
asks, and for what, in another way (RFC 9110 section 6.5.1)."""

MAX_REQUEST_ID: Final = 128
_REQUEST_ID_CHARACTERS: Final = (
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/=:@"
)


def request_id(fields: dict[bytes, bytes]) -> bytes:
    """The client's id if it is a sane token, else a new one of 32 hexadecimal digits."""
    given = fields.get(b"x-request-id")
    if given and len(given) <= MAX_REQUEST_ID and not given.translate(None, _REQUEST_ID_CHARACTERS):
        return given
    return hexlify(getrandbits(128).to_bytes(16, "big"))


class TrustedProxies:
    """The addresses whose ``X-Forwarded-*`` is believed.

    :param networks: addresses and networks in CIDR notation.
    """

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = tuple(ip_network(network, strict=False) for network in networks)
        self._known: dict[str, bool] = {}

    def __contains__(self, address: str) -> bool:
        known = self._known.get(address)
        if known is None:
            try:
                ip = ip_address(address)
            except ValueError:
                return False
            known = any(ip in network for network in self._networks)
            if len(self._known) < 4096:  # peers repeat; a bound all the same
                self._known[address] = known
        return known

    def client(self, request: Request, peer: str) -> str:
        """The client's address: the last one in the chain that is not itself trusted."""
        if peer not in self:
            return peer
        chain = b",".join(find_all(request.headers, b"x-forwarded-for")).decode("latin-1")
        client = peer
        for hop in reversed([hop.strip() for hop in chain.split(",") if hop.strip()]):
            try:
                client = str(_address(hop))
            except ValueError:
                break  # what stands left of something unreadable was not written by a proxy
            if client not in self:
                break
        return client


def _address(hop: str) -> IPv4Address | IPv6Address:
    """The address of one hop, which some proxies write with a port. Raises ``ValueError``."""
    if hop[:1] == "[":
        hop = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        hop = hop.partition(":")[0]
    address = ip_address(hop)
    return getattr(address, "ipv4_mapped", None) or address


def accepts_trailers(headers: Headers) -> bool:
    """Whether ``TE`` says that the client wants to see trailers (RFC 9110 section 10.1.4)."""
    members = b",".join(find_all(headers, b"te")).split(b",")
    return any(member.strip().lower() == b"trailers" for member in members)


def forwarding_headers(
    request: Request, stream: DownstreamStream, request_id: bytes, trusted: TrustedProxies | None
) -> Headers:
    """The fields that the gateway adds to a request for a service."""
    fields = request.fields
    peer = stream.peer.encode()
    scheme = stream.scheme
    host = fields.get(b"host", b"")
    if trusted is not None and stream.peer in trusted:
        chain = find_all(request.headers, b"x-forwarded-for")
        peer = b", ".join([*chain, peer])
        scheme = fields.get(b"x-forwarded-proto", scheme)
        host = fields.get(b"x-forwarded-host", host)
    headers = [
        (b"x-forwarded-for", peer),
        (b"x-forwarded-proto", scheme),
        (b"x-forwarded-host", host),
        (b"x-request-id", request_id),
        VIA,
    ]
    if b"host" not in fields:  # HTTP/1.0; a service of HTTP/1.1 wants one (RFC 9112 section 3.2)
        headers.append((b"host", b""))
    if b"te" in fields and accepts_trailers(request.headers):
        headers += TE_TRAILERS
    if b"traceparent" not in fields:
        # A new trace, sampled, as a service without a gateway in front would start it
        # (W3C Trace Context, OpenTelemetry's default sampler).
        ids = hexlify(getrandbits(192).to_bytes(24, "big"))  # half the cost of formatting two ints
        headers.append((b"traceparent", b"00-%b-%b-01" % (ids[:32], ids[32:])))
    return headers
