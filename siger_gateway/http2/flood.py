"""How much of what costs the peer nothing it may send: a budget that time refills.

An HTTP/2 connection has many frames that ask for work and carry none: PING, SETTINGS, a stream that
is opened and reset, frames without content. Each is legitimate now and then, and thousands a second
are an attack (CVE-2019-9511 to 9518, 2023-44487, 2024-27316). So each kind has a bucket, and who
empties one is told ENHANCE_YOUR_CALM and has to connect again.
"""

from __future__ import annotations

from typing import Final


class Budget:
    """A token bucket.

    :param burst: what it holds at most, and at the start.
    :param rate: what comes back each second.
    """

    __slots__ = ("_at", "_left", "burst", "rate")

    def __init__(self, burst: float, rate: float, now: float) -> None:
        self.burst = burst
        self.rate = rate
        self._left = burst
        self._at = now

    def take(self, now: float) -> bool:
        """Takes one; False: there is none left. ``now`` in seconds may be as old as a second."""
        if self._left < 1:
            if now > self._at:
                self._left = min(self.burst, self._left + (now - self._at) * self.rate)
                self._at = now
            if self._left < 1:
                return False
        self._left -= 1
        return True

    def give(self, amount: float) -> None:
        """The peer has earned ``amount`` more."""
        self._left = min(self.burst, self._left + amount)


class Budgets:
    """Those of one connection. The names say what is bounded."""

    __slots__ = ("empty", "noise", "resets", "windows")

    def __init__(self, now: float, trust: float) -> None:
        self.resets = Budget(RESETS * trust, RESETS_RATE * trust, now)
        """Streams that are refused, or end in a RST_STREAM, unless the peer had waited for long."""
        self.noise = Budget(NOISE * trust, NOISE_RATE * trust, now)
        """SETTINGS, PRIORITY, unknown frames, frames for streams that are over, what answers none
        of ours."""
        self.empty = Budget(EMPTY * trust, EMPTY_RATE * trust, now)
        """DATA and CONTINUATION without content."""
        self.windows = Budget(WINDOWS * trust, WINDOWS_RATE * trust, now)
        """WINDOW_UPDATE and PING; each DATA frame that is sent earns some: clients of gRPC in Go
        and Java PING for nearly each that they get, to estimate bandwidth and delay."""


RESETS: Final = 1000.0
RESETS_RATE: Final = 33.0
"""Node's streamResetBurst and streamResetRate: a browser that closes a tab resets a hundred."""
NOISE: Final = 1000.0
NOISE_RATE: Final = 100.0
"""nghttp2 and Envoy allow 1,000 outstanding acknowledgements."""
EMPTY: Final = 100.0
EMPTY_RATE: Final = 10.0
WINDOWS: Final = 5000.0
WINDOWS_RATE: Final = 1000.0
WINDOWS_PER_DATA: Final = 4.0
"""For each DATA frame that is sent: two windows are usual, of the stream and of the connection, and
a PING. Envoy allows ten windows."""
