"""What a peer may do wrong on an HTTP/2 connection, and the codes for it (RFC 9113 section 7).

A ``ConnectionFault`` ends the connection, with a GOAWAY; a ``StreamFault`` only its stream, with a
RST_STREAM. ``HeaderListTooLarge`` is no breach of the protocol: the connection and its compression
go on, the one request is answered 431 or its stream refused.
"""

from __future__ import annotations

from typing import Final

NO_ERROR: Final = 0x0
PROTOCOL_ERROR: Final = 0x1
INTERNAL_ERROR: Final = 0x2
FLOW_CONTROL_ERROR: Final = 0x3
SETTINGS_TIMEOUT: Final = 0x4
STREAM_CLOSED: Final = 0x5
FRAME_SIZE_ERROR: Final = 0x6
REFUSED_STREAM: Final = 0x7
CANCEL: Final = 0x8
COMPRESSION_ERROR: Final = 0x9
CONNECT_ERROR: Final = 0xA
ENHANCE_YOUR_CALM: Final = 0xB
INADEQUATE_SECURITY: Final = 0xC
HTTP_1_1_REQUIRED: Final = 0xD

_NAMES: Final = (
    *("no_error", "protocol_error", "internal_error", "flow_control_error", "settings_timeout"),
    *("stream_closed", "frame_size_error", "refused_stream", "cancel", "compression_error"),
    *("connect_error", "enhance_your_calm", "inadequate_security", "http_1_1_required"),
)


def code_name(code: int) -> str:
    """The name of an error code, for metrics and logs: a peer's inventions are all ``unknown``."""
    return _NAMES[code] if 0 <= code < len(_NAMES) else "unknown"


class ConnectionFault(Exception):
    """The connection cannot go on. ``detail`` may be shown to the peer, as GOAWAY's debug data."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(f"{code_name(code)}: {detail}")
        self.code = code
        self.detail = detail


class StreamFault(Exception):
    """One stream cannot go on; all others can."""

    def __init__(self, stream_id: int, code: int, detail: str) -> None:
        super().__init__(f"stream {stream_id}: {code_name(code)}: {detail}")
        self.stream_id = stream_id
        self.code = code
        self.detail = detail


class HpackError(ConnectionFault):
    """A header block that is none: both sides no longer have the same dynamic table, so nothing
    that follows on this connection could be understood (RFC 7541 section 2.3.3)."""

    def __init__(self, detail: str) -> None:
        super().__init__(COMPRESSION_ERROR, detail)


class HeaderListTooLarge(Exception):
    """A valid header block, but with more than is taken; the dynamic table has been kept right."""
