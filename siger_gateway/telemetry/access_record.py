"""What the access log tells of one exchange."""

from __future__ import annotations

import msgspec


class AccessRecord(msgspec.Struct, gc=False):
    """One exchange, as the access log tells it. ``duration`` in seconds, sizes in body bytes.

    When the line is written, ``time``, in Unix seconds, becomes text, and the secrets are taken out
    of ``query``, which until then is as the client has sent it. ``user`` and ``key_id`` are who it
    has shown to be, and with which API key.
    """

    time: float | str
    request_id: str
    client: str
    method: str
    path: str
    route: str
    service: str
    endpoint: str
    status: int
    duration: float
    bytes_in: int
    bytes_out: int
    reason: str
    detail: str
    user_agent: str
    query: bytes | str
    user: str
    key_id: str
