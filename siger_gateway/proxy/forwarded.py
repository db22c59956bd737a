"""Who the client is, and the header fields that tell a service about it.

``X-Forwarded-*`` and ``Forwarded`` from a client are claims. They are believed only when the
connection comes from one of ``trusted_proxies``; otherwise they are replaced, so that a service
behind the gateway can rely on what it sees. The identity fields that only the gateway may set are
removed always.
"""

from __future__ import annotations

from binascii import hexlify
from collections.abc import Iterable
from random import getrandbits
from typing import Final

from siger_gateway.filters.headers import IDENTITY_FIELDS, spellings
from siger_gateway.filters.networks import Networks, address_of
from siger_gateway.http.headers import (
    HOP_BY_HOP,
    NEVER_DROPPED,
    Header,
    Headers,
    find_all,
    is_host,
)
from siger_gateway.http.message import Request
from siger_gateway.http.stream import DownstreamStream
from siger_gateway.proxy import forwarded_field

VIA: Final = (b"via", b"1.1 siger")
VIA_1_0: Final = (b"via", b"1.0 siger")
VIA_2: Final = (b"via", b"2 siger")
"""RFC 9110 section 7.6.3: the version in which the message came; a line of its own is an addition
to a list."""

MAX_PASSES: Final = 10
"""Gateways of this name that a request may have come through: more of them are a loop."""

X_FORWARDED: Final = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host")

SCHEMES: Final = frozenset({b"http", b"https", b"ws", b"wss"})
"""What a trusted proxy may call the scheme that the client used."""

TE_TRAILERS: Final[Headers] = [(b"te", b"trailers"), (b"connection", b"te")]
"""Said to the service in the client's place: trailers are passed on, codings are not."""

NOT_FORWARDED: Final = (
    HOP_BY_HOP
    | {b"expect", b"forwarded"}
    | IDENTITY_FIELDS
    | spellings(b"x-request-id", b"x-real-ip", b"x-forwarded-for")
    | spellings(b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port")
)
"""Request fields that the gateway removes, or replaces by its own."""

NOT_IN_TRAILERS: Final = (
    NOT_FORWARDED | NEVER_DROPPED | {b"authorization", b"cookie", b"trailer", b"via"}
)
"""Trailer fields of a request that end here: after the head has been acted on, they would say who
asks, and for what, in another way (RFC 9110 section 6.5.1)."""

MAX_REQUEST_ID: Final = 128
_IN_REQUEST_ID: Final = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/=:@"
)
_REQUEST_ID: Final = bytes(code if code in _IN_REQUEST_ID else ord("-") for code in range(256))
"""Translates an id to itself, if it is one: a third of what it costs to delete the characters."""


def request_id(fields: dict[bytes, bytes]) -> bytes:
    """The client's id if it is a sane token, else a new one of 32 hexadecimal digits."""
    given = fields.get(b"x-request-id")
    if given and len(given) <= MAX_REQUEST_ID and given.translate(_REQUEST_ID) == given:
        return given
    return hexlify(getrandbits(128).to_bytes(16, "big"))


def via_of(http10: bool, http2: bool) -> Header:
    """The field that says how a message came."""
    return VIA_2 if http2 else VIA_1_0 if http10 else VIA


class TrustedProxies:
    """The addresses whose ``X-Forwarded-*`` is believed.

    :param networks: addresses and networks in CIDR notation.
    """

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = Networks(networks)
        self._known: dict[str, bool] = {}

    def __contains__(self, address: str) -> bool:
        known = self._known.get(address)
        if known is None:
            ip = address_of(address)
            if ip is None:
                return False
            known = ip in self._networks
            if len(self._known) < 4096:  # peers repeat; a bound all the same
                self._known[address] = known
        return known

    def client(self, request: Request, peer: str) -> str:
        """The client's address: the last one in the chain that is not itself trusted."""
        if peer not in self:
            return peer
        client = peer
        for hop in reversed(_chain(request)):
            address = _address(hop)
            if not address:
                break  # what stands left of something unreadable was not written by a proxy
            client = address
            if client not in self:
                break
        return client


def _hops(chain: list[bytes]) -> list[str]:
    hops = [hop.strip() for hop in b",".join(chain).split(b",")]
    return [hop.decode("latin-1") for hop in hops if hop]


def _chain(request: Request) -> list[str]:
    """The hops that ``X-Forwarded-For`` names, or ``Forwarded`` where it counts."""
    elements = forwarded_field.parse(_forwarded(request))
    if elements:
        return _nodes(elements)
    return _hops(find_all(request.headers, b"x-forwarded-for"))


def _forwarded(request: Request) -> list[bytes]:
    """The ``Forwarded`` fields that count: none beside an ``X-Forwarded-*``. Nearly all proxies
    maintain only those, and would pass on a client's ``Forwarded`` as it came."""
    fields = request.fields
    if b"forwarded" not in fields or not fields.keys().isdisjoint(X_FORWARDED):
        return []
    return find_all(request.headers, b"forwarded")


def _nodes(elements: list[forwarded_field.Element]) -> list[str]:
    """The addresses in ``for``; what is none, perhaps for privacy (RFC 7239 section 6.3), is not
    passed on: between the commas of ``X-Forwarded-For`` it might be read as several."""
    named = [element.get(b"for", b"").decode("latin-1") for element in elements]
    return [_address(node) or "unknown" for node in named]


def has_looped(request: Request) -> bool:
    """Whether a request with a ``Via`` has passed gateways of this name too often."""
    members = b",".join(find_all(request.headers, b"via")).split(b",")
    return sum(member.strip().endswith(b" siger") for member in members) > MAX_PASSES


def _address(hop: str) -> str:
    """The address of one hop, which some proxies write with a port; empty if there is none."""
    if "%" in hop:  # a scope (RFC 4007) means nothing to others, and Python takes any text for one
        return ""
    if hop[:1] == "[":
        hop = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        hop = hop.partition(":")[0]
    address = address_of(hop)
    return "" if address is None else str(address)


def accepts_trailers(headers: Headers) -> bool:
    """Whether ``TE`` says that the client wants to see trailers (RFC 9110 section 10.1.4)."""
    members = b",".join(find_all(headers, b"te")).split(b",")
    return any(member.strip().lower() == b"trailers" for member in members)


Origin = tuple[Header, Header, Header, Header]
"""``X-Forwarded-For``, ``-Proto``, ``-Host`` and ``Forwarded``."""

_origins: dict[tuple[str, bytes, bytes], Origin] = {}
"""What is said of a peer, the scheme and the host that it asked for: a connection nearly always
asks for the same host, so that ``Forwarded`` costs no more than the bytes of the field."""

MAX_ORIGINS: Final = 1024
"""How many are remembered, of which each takes about 1 KiB."""
MAX_HOST: Final = 255
"""Bytes of a host that is remembered: the longest name in the DNS (RFC 1035 section 2.3.4)."""


def forwarding_headers(
    request: Request, stream: DownstreamStream, request_id: bytes, trusted: TrustedProxies | None
) -> Headers:
    """The fields that the gateway adds to a request for a service."""
    fields = request.fields
    peer, scheme, host = stream.peer, stream.scheme, fields.get(b"host", b"")
    origin = _origins.get((peer, scheme, host))
    if origin is None:
        origin = _origin(peer, scheme, host)
    if trusted is not None and peer in trusted:
        origin = _vouched(request, stream, origin)
    via = via_of(request.http10, request.http2)
    headers = [*origin, (b"x-request-id", request_id), via]
    if b"host" not in fields:  # HTTP/1.0; a service of HTTP/1.1 wants one (RFC 9112 section 3.2)
        headers.append((b"host", b""))
    # Nearly always it says nothing else, and taking it apart costs a microsecond.
    if b"te" in fields and (fields[b"te"] == b"trailers" or accepts_trailers(request.headers)):
        headers += TE_TRAILERS
    if b"traceparent" not in fields:
        # A new trace, sampled, as a service without a gateway in front would start it
        # (W3C Trace Context, OpenTelemetry's default sampler).
        ids = hexlify(getrandbits(192).to_bytes(24, "big"))  # half the cost of formatting two ints
        headers.append((b"traceparent", b"00-%b-%b-01" % (ids[:32], ids[32:])))
    return headers


def forwarded_trailers(trailers: Headers) -> Headers:
    """Those of a request that a service gets."""
    return [field for field in trailers if field[0] not in NOT_IN_TRAILERS]


def client_origin(
    request: Request, stream: DownstreamStream, trusted: TrustedProxies | None
) -> tuple[bytes, bytes]:
    """``http`` or ``https``, and the host that the client asked for, as it may be believed: what a
    service is told in ``X-Forwarded-Proto`` and ``-Host``."""
    scheme, host = stream.scheme, request.fields.get(b"host", b"")
    if trusted is not None and stream.peer in trusted:
        vouched = _vouched(request, stream, _origin(stream.peer, scheme, host))
        host = vouched[2][1]
        # A WebSocket's scheme says how it is carried all the same.
        scheme = {b"wss": b"https", b"ws": b"http"}.get(vouched[1][1], vouched[1][1])
    return scheme, host


def with_host(headers: Headers, host: bytes) -> Headers:
    """``headers`` with another Host, for services that answer to their own name only."""
    return [(name, host if name == b"host" else value) for name, value in headers]


def _origin(peer: str, scheme: bytes, host: bytes) -> Origin:
    origin = (
        (b"x-forwarded-for", peer.encode()),
        (b"x-forwarded-proto", scheme),
        (b"x-forwarded-host", host),
        (b"forwarded", forwarded_field.element(peer, scheme, host)),
    )
    if len(host) <= MAX_HOST:
        if len(_origins) >= MAX_ORIGINS:
            _origins.clear()
        _origins[peer, scheme, host] = origin
    return origin


def _vouched(request: Request, stream: DownstreamStream, origin: Origin) -> Origin:
    """``origin``, appended to what a trusted proxy says in one of the two kinds of fields for it;
    the other kind is made of that (RFC 7239 section 7.4)."""
    said = _forwarded(request)
    elements = forwarded_field.parse(said)
    if elements:
        chain = [node.encode() for node in _nodes(elements)]
    else:
        chain = find_all(request.headers, b"x-forwarded-for")
    first = elements[0] if elements else {}
    scheme = _first(request, b"x-forwarded-proto").lower() or first.get(b"proto", b"").lower()
    if scheme not in SCHEMES:
        scheme = stream.scheme
    host = _first(request, b"x-forwarded-host") or first.get(b"host", b"")
    own = origin[2][1]
    if host != own and not is_host(host):
        host = own
    if not elements:
        said = _as_elements(chain, scheme, host)
    return (
        (b"x-forwarded-for", b", ".join([*chain, origin[0][1]])),
        (b"x-forwarded-proto", scheme),
        (b"x-forwarded-host", host),
        (b"forwarded", b", ".join([*said, origin[3][1]])),
    )


def _first(request: Request, name: bytes) -> bytes:
    """The first member of a list that each proxy may have added to."""
    if name not in request.fields:
        return b""
    return find_all(request.headers, name)[0].partition(b",")[0].strip()


def _as_elements(chain: list[bytes], scheme: bytes, host: bytes) -> list[bytes]:
    """``X-Forwarded-*`` as elements of ``Forwarded``; scheme and host are what the client used."""
    nodes = [_address(hop) for hop in _hops(chain)]
    if not nodes:
        return []
    rest = [b"for=" + forwarded_field.node(address) for address in nodes[1:]]
    return [forwarded_field.element(nodes[0], scheme, host), *rest]
