"""What clients may say in HTTP/2, and what they must hear, as data: RFC 9113 section by section,
and the groups of ``h2spec``. ``test_http2.py`` plays each case twice: in pieces, byte by byte.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from siger_gateway.http2.faults import (
    NO_ERROR,
)
from tests.protocol.http2_peer import (
    HELLO,
    Fields,
    get,
    head,
    post,
)

GOES_ON = -1


@dataclass(frozen=True, slots=True)
class ServerCase:
    """Pieces that a client sends; between any two, the services answer.

    :param code: of the GOAWAY that ends the connection; ``GOES_ON``: there is none.
    :param statuses: stream -> status of the response.
    :param resets: stream -> code of the gateway's RST_STREAM.
    """

    section: str
    name: str
    sent: tuple[bytes, ...]
    code: int = GOES_ON
    statuses: dict[int, int] = field(default_factory=dict)
    resets: dict[int, int] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.section}: {self.name}"


def taken(section: str, name: str, *sent: bytes, statuses: dict[int, int]) -> ServerCase:
    """Every stream is answered so, and the connection goes on."""
    return ServerCase(section, name, (HELLO, *sent), statuses=statuses)


def ignored(section: str, name: str, *sent: bytes) -> ServerCase:
    return ServerCase(section, name, (HELLO, *sent))


def reset_with(
    code: int, section: str, name: str, *sent: bytes, stream: int = 1, status: int = 0
) -> ServerCase:
    """The stream, and nothing else, ends with a RST_STREAM."""
    statuses = {stream: status} if status else {}
    return ServerCase(section, name, (HELLO, *sent), statuses=statuses, resets={stream: code})


def ended_with(
    code: int, section: str, name: str, *sent: bytes, statuses: dict[int, int] | None = None
) -> ServerCase:
    """The connection ends with a GOAWAY."""
    return ServerCase(section, name, (HELLO, *sent), code, statuses or {})


def malformed(section: str, name: str, fields: Fields) -> ServerCase:
    """Answered 400, and reset: no service hears of it."""
    return ServerCase(section, name, (HELLO, head(1, fields)), GOES_ON, {1: 400}, {1: NO_ERROR})


def malformed_body(section: str, name: str, *sent: bytes, code: int = NO_ERROR) -> ServerCase:
    return ServerCase(section, name, (HELLO, *sent), GOES_ON, {1: 400}, {1: code})


def padded(length: int, content: bytes, padding: int | None = None) -> bytes:
    return bytes([length]) + content + bytes(length if padding is None else padding)


OPEN = post(1, b"/wait")
"""A stream that is open on both sides."""
HALF = get(1, b"/wait")
"""One that the client has closed on its side."""
DONE = get(1)
"""One that is closed on both sides, once the services have answered."""
