"""How often a key may come: one number for each, in a table that cannot grow without end.

The algorithm is GCRA (ITU-T I.371; ATM Forum Traffic Management 4.0, section 4.4.2): a token bucket
that keeps only the time at which the bucket is full again, which is called TAT, the theoretical
arrival time. A request moves it on by the seconds in which the rate gives one request, and is
refused where that would be further from now than the bucket is deep. Nothing has to be refilled:
a TAT that is over is a full bucket, and as good as none.

The table is two flat arrays, hashes of keys and their TATs, in buckets of ``WAYS`` slots. A dict of
a million of them takes 97 MiB, this 34 MiB, and a dict cannot tell which key to forget. It begins
small and doubles when a bucket has no room for one more key, at an eighth of its slots or so.
Doubling copies the arrays behind themselves: one bit more of the hash tells the buckets apart, and
the copies in the wrong ones are never found and count as free. That is a copy of memory, 7 to 20 ms
for the greatest; a loop in Python would stop the event loop for a second.

When the table may not double any more, the key of the bucket gives way that is nearest to full: it
loses least. So who wants a key forgotten that has used n requests must send n with each of millions
of keys, and at once.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from math import inf
from typing import Final, NamedTuple

WAYS: Final = 8
"""Slots in a bucket, a power of two: of a million keys in the greatest table, 7 in 1,000 find no
room; with 4 it would be 33."""

START: Final = 64
"""Slots of a new table: 1 KiB."""

SLOTS: Final = 1 << 21
"""Slots of the greatest table: 32 MiB, and a sixteenth more that arrays keep in reserve."""

SLACK: Final = 0.001
"""Requests by which one may come early, so that rounding refuses nobody who waited for as long as
he was told. Times are rounded to 2 ns after 97 days of uptime; this is more, up to 500,000
requests/s. The TAT moves on in full all the same: the rate is none the higher."""

Key = str | bytes | tuple[str | bytes, ...]
"""Never a number, nor a tuple with one. The table stands on ``hash``, which is SipHash with a
secret of this process for str and bytes (PEP 456), unless PYTHONHASHSEED tells it; but for numbers
anybody can find a million that meet in one bucket. Two keys of a million share 64 bits with a
chance of 3 in 10^8: they would share a limit."""


class Outcome(NamedTuple):
    """What became of a request, and what the key has left."""

    retry_after: float
    """Seconds after which the same would be let through if nothing else came; 0: it has been. Inf:
    it never is, for it costs more than the burst."""
    remaining: int
    """Requests that would be let through now."""
    window: float
    """Seconds for which ``remaining`` should do: the ``t`` of the ``RateLimit`` field. It is the
    time in which the rate gives as many, so that a client which spreads them over it keeps the
    rate; where there are none, or the request was refused, the time until it is worth trying."""
    full_after: float
    """Seconds until the whole burst is there again."""


_new: Final = tuple.__new__  # half the time of ``Outcome(...)``


class Limiter:
    """One limit, for any number of keys.

    :param requests: how many each key has in ``per`` seconds.
    :param burst: how many of them may come at once, at least 1. What one gateway of several lets
        through may be a share of the whole: it need not be a whole number.
    :param slots: of the greatest table, a power of two; each takes 16 bytes.
    :raises ValueError: for what cannot be a limit.
    """

    __slots__ = ("_depth", "_hashes", "_interval", "_limit", "_mask", "_slots", "_tats")

    def __init__(self, requests: float, per: float, burst: float, slots: int = SLOTS) -> None:
        if slots < START or slots & (slots - 1):
            raise ValueError(f"slots must be a power of two, at least {START}, not {slots}")
        self._slots = slots
        # An empty slot is a full bucket of a key whose hash is 0.
        self._hashes = array("q", [0]) * START
        self._tats = array("d", [-inf]) * START
        self._mask = START - WAYS
        """What of a hash is the number of the first slot of its bucket."""
        self.change(requests, per, burst)

    def __repr__(self) -> str:
        return f"<Limiter 1/{self._interval:g} s, {len(self._hashes)} of {self._slots} slots>"

    def change(self, requests: float, per: float, burst: float) -> None:
        """Another limit from now on. A key is full again when it would have been: if the rate and
        the burst change alike, as they do when the number of gateways does, it has the same share
        of its burst left as before.

        :raises ValueError: for what cannot be a limit; then nothing changes.
        """
        valid = 0 < requests < inf and 0 < per < inf and 1 <= burst < inf
        interval = per / requests if valid else 0.0
        if not 0.0 < interval <= burst * interval < inf:
            raise ValueError(f"not a limit: {requests} requests in {per} s, a burst of {burst}")
        self._interval = interval
        self._depth = burst * interval
        """Seconds in which an empty bucket is full."""
        self._limit = (burst + SLACK) * interval

    @property
    def nbytes(self) -> int:
        """Bytes that the table takes."""
        return self._hashes.__sizeof__() + self._tats.__sizeof__()

    def take(self, key: Key, now: float, cost: int = 1) -> Outcome:
        """One request of ``key``: takes what it costs, or nothing.

        :param now: seconds on a clock that never goes back.
        :param cost: how many requests it counts as, at least 1.
        """
        need = self._interval
        if cost != 1:
            need *= cost
            if need > self._limit:
                return self.would(key, now, cost)
        number = hash(key)
        slot = number & self._mask
        # Most buckets have one key, which is in the first slot.
        if self._hashes[slot] != number:
            slot = self._claim(number, now)
        tats = self._tats
        tat = tats[slot]
        ahead = tat - now
        if ahead < 0.0:
            ahead = 0.0
            tat = now
        ahead += need
        limit = self._limit
        if ahead > limit:
            return self._tell(ahead - need, ahead - self._depth)
        tats[slot] = tat + need
        # As ``_tell`` does it, which would be a fifth of the time of all this.
        interval = self._interval
        remaining = int((limit - ahead) / interval)
        window = remaining * interval if remaining else ahead + interval - self._depth
        return _new(Outcome, (0.0, remaining, window, ahead))

    def would(self, key: Key, now: float, cost: int = 1) -> Outcome:
        """What ``take`` would say about the time to wait, and what there is left before it."""
        hashes = self._hashes
        number = hash(key)
        slot = number & self._mask
        ahead = 0.0
        try:
            if hashes[slot] != number:
                slot = hashes.index(number, slot, slot + WAYS)
        except ValueError:  # never seen, or full for long
            pass
        else:
            tat = self._tats[slot]
            if tat > now:
                ahead = tat - now
        need = cost * self._interval
        if need > self._limit:
            return self._tell(ahead, inf)
        after = ahead + need
        return self._tell(ahead, after - self._depth if after > self._limit else 0.0)

    def _tell(self, ahead: float, retry_after: float) -> Outcome:
        """The outcome for a key that is full in ``ahead`` seconds."""
        interval = self._interval
        remaining = int((self._limit - ahead) / interval)
        if 0.0 < retry_after < inf:
            window = retry_after
        elif remaining > 0:
            window = remaining * interval
        else:
            window = ahead + interval - self._depth
        # It is negative where a limit has shrunk by more than the key had left.
        return _new(Outcome, (retry_after, remaining if remaining > 0 else 0, window, ahead))

    def _claim(self, number: int, now: float) -> int:
        """The slot of the key with this hash, or one that is its own from now on."""
        hashes, tats = self._hashes, self._tats
        while True:
            mask = self._mask
            start = number & mask
            try:
                return hashes.index(number, start, start + WAYS)
            except ValueError:
                bucket = tats[start : start + WAYS]
            fullest = min(bucket)
            slot = start + bucket.index(fullest)
            if fullest > now:  # all are in use, but for the copies that do not belong here
                for other in range(start, start + WAYS):
                    if hashes[other] & mask != start:
                        slot = other
                        break
                else:
                    if len(hashes) < self._slots:
                        self._double()
                        continue
            hashes[slot] = number
            tats[slot] = -inf
            return slot

    def _double(self) -> None:
        self._hashes *= 2
        self._tats *= 2
        self._mask = len(self._hashes) - WAYS


def take_all(limits: Sequence[tuple[Limiter, Key, int]], now: float) -> list[Outcome]:
    """One request under several limits, each with the key it counts by and what the request costs:
    takes from all, or from none. It has been let through if none of the outcomes has a
    ``retry_after``; if some have, it would be after the greatest.

    :param limits: at least one, and every limiter once.
    """
    *others, (last, last_key, last_cost) = limits
    outcomes = [limiter.would(key, now, cost) for limiter, key, cost in others]
    for outcome in outcomes:
        if outcome.retry_after:
            return [*outcomes, last.would(last_key, now, last_cost)]
    # The last one may be asked and taken from at once: nobody comes after it who could refuse.
    outcome = last.take(last_key, now, last_cost)
    if outcome.retry_after:
        return [*outcomes, outcome]
    return [*[limiter.take(key, now, cost) for limiter, key, cost in others], outcome]
