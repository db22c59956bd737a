"""``grpc-timeout``: how long the caller is still willing to wait (PROTOCOL-HTTP2.md of grpc).

A gateway passes the deadline on, less the time that it has spent itself: otherwise the service
goes on working for a caller that has gone. Values are held as whole nanoseconds, the finest unit
that can be sent, so nothing is lost between reading and writing.
"""

from __future__ import annotations

from typing import Final

from siger_gateway.errors import GatewayError

MAX_DIGITS: Final = 8
"""``TimeoutValue``: a positive integer of at most 8 digits."""

NANOSECONDS: Final = {
    b"n": 1,
    b"u": 1_000,
    b"m": 1_000_000,
    b"S": 1_000_000_000,
    b"M": 60_000_000_000,
    b"H": 3_600_000_000_000,
}
"""``TimeoutUnit``, finest first."""

LONGEST: Final = (10**MAX_DIGITS - 1) * NANOSECONDS[b"H"]
"""What can be written at most: 11,000 years."""


def parse(value: bytes) -> int:
    """``b"250m"`` -> 250,000,000 nanoseconds.

    Zero is taken, though it is no positive integer: it is what is left of a deadline that has come.

    :raises GatewayError: ``bad_request``.
    """
    digits, unit = value[:-1], NANOSECONDS.get(value[-1:])
    if unit is None or not digits.isdigit() or len(digits) > MAX_DIGITS:
        raise GatewayError(
            "bad_request", "grpc-timeout must have 1 to 8 digits and one of the units H M S m u n."
        )
    return int(digits) * unit


def write(nanoseconds: int) -> bytes:
    """The shortest unit that holds ``nanoseconds`` in 8 digits, rounded up, so that nobody is told
    a deadline that is earlier than the caller's. More than ``LONGEST`` is cut to it.
    """
    nanoseconds = min(max(nanoseconds, 0), LONGEST)
    for unit, size in NANOSECONDS.items():
        count = -(-nanoseconds // size)
        if count < 10**MAX_DIGITS:
            return b"%d%b" % (count, unit)
    raise AssertionError("LONGEST has 8 digits in hours")


def counted_down(value: bytes, elapsed: float) -> bytes | None:
    """The ``grpc-timeout`` to pass on.

    :param elapsed: seconds since the request came.
    :returns: None when the deadline has come, and there is no use in asking the service.
    :raises GatewayError: ``bad_request`` for a bad ``value``.
    """
    left = parse(value) - int(elapsed * 1e9)
    return write(left) if left > 0 else None
