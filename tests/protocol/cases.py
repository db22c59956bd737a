"""What a protocol case is: bytes that are sent, and what everybody must see of them.

A case is data. ``test_requests.py`` plays those of the client's side, ``test_responses.py`` those
of the service's side, each through a real gateway process over real sockets.

Sections: ``9112 6.1`` is section 6.1 of RFC 9112. A name in brackets, as in ``[CVE-2024-1135]``,
is a fault of some other server or proxy that the case is taken from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n"
"""Sent behind every request that must be refused: no service may ever see it."""


@dataclass(frozen=True, slots=True)
class RequestCase:
    """Bytes of a client.

    :param statuses: of the answers, in order.
    :param reason: of the last answer, where it is a local reply.
    :param kept: the connection takes a further request afterwards; otherwise it is closed.
    :param seen: the requests that the service gets, byte for byte, less the fields that the gateway
        adds to each.
    """

    section: str
    name: str
    sent: bytes
    statuses: tuple[int, ...]
    reason: str
    kept: bool
    seen: tuple[bytes, ...]

    def __str__(self) -> str:
        return f"{self.section}: {self.name}"


def forwarded(section: str, name: str, sent: bytes, *seen: bytes, kept: bool = True) -> RequestCase:
    """The service sees ``seen``, and answers each with 200."""
    return RequestCase(section, name, sent, (200,) * len(seen), "", kept, seen)


def refused(
    section: str,
    name: str,
    sent: bytes,
    status: int = 400,
    reason: str = "bad_request",
    *,
    before: tuple[bytes, ...] = (),
    behind: bytes = SMUGGLED,
) -> RequestCase:
    """The gateway answers ``status`` and closes, and whatever follows is never read.

    :param behind: what follows; only where it would be part of the fault, nothing.
    :param before: what the service sees of earlier, valid requests in ``sent``.
    """
    statuses = (200,) * len(before) + (status,)
    return RequestCase(section, name, sent + behind, statuses, reason, False, before)


def answered(
    section: str, name: str, sent: bytes, status: int, reason: str = "", *, kept: bool = True
) -> RequestCase:
    """The gateway answers ``status`` itself; the request was valid HTTP."""
    return RequestCase(section, name, sent, (status,), reason, kept, ())


Upstream = Literal["kept", "dropped"]


@dataclass(frozen=True, slots=True)
class ResponseCase:
    """Bytes of a service, in answer to ``request``.

    :param closes: the service closes the connection behind the answer.
    :param got: what the client gets, byte for byte, up to the end of the connection, less the
        fields that the gateway adds; for a local reply its status and reason.
    :param upstream: whether the connection serves the next request or is closed by the gateway.
    """

    section: str
    name: str
    answer: bytes
    closes: bool
    got: bytes | tuple[int, str]
    upstream: Upstream
    request: bytes

    def __str__(self) -> str:
        return f"{self.section}: {self.name}"


GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
GET_1_0 = b"GET / HTTP/1.0\r\n\r\n"


def relayed(
    section: str,
    name: str,
    answer: bytes,
    got: bytes,
    upstream: Upstream = "kept",
    *,
    closes: bool = False,
    request: bytes = GET,
) -> ResponseCase:
    """The client gets ``got``: the answer as the gateway passes it on, or what there is of it."""
    return ResponseCase(section, name, answer, closes, got, upstream, request)


def unusable(
    section: str,
    name: str,
    answer: bytes,
    *,
    reason: str = "upstream_protocol",
    closes: bool = False,
    request: bytes = GET,
) -> ResponseCase:
    """The client gets 502 with ``reason``, and nothing of the answer."""
    return ResponseCase(section, name, answer, closes, (502, reason), "dropped", request)
