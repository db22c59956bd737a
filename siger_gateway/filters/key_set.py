"""The public keys of an issuer, fetched from its URL and kept up to date.

One task fetches: at the start, every ``refresh`` seconds, and when a token names a key that is not
known, because issuers sign with a new key soon after they publish it. Anybody can make up names of
keys, so that happens once in ``min_interval`` seconds at most, and all requests that ask for it
wait for the same fetch.

When a fetch fails, or brings no key that can be used, the last keys stay: an issuer that is down,
or that has published an empty file, does not log everybody out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from siger_gateway.errors import GatewayError

if TYPE_CHECKING:  # needs cryptography, and so do only those who fetch keys
    from siger_gateway.filters.jwks import Key

REFRESH: Final = 300.0
"""Seconds between two fetches: Envoy's default (jwt_authn, cache_duration)."""
MIN_INTERVAL: Final = 1.0
"""Seconds from one fetch to the next that an unknown key may cause: anybody can make up names of
keys. Less than ``WAIT_TIMEOUT``, so that no request with a new key is refused because somebody has
just asked for another."""
JITTER: Final = 0.1
"""Share of a pause that is left off at random, so that gateways do not fetch together."""
FIRST_RETRY: Final = 1.0
"""Seconds to the next fetch after one that failed; doubled each time, up to ``LAST_RETRY``."""
LAST_RETRY: Final = 10.0
"""Seconds, in a long outage."""
FETCH_TIMEOUT: Final = 5.0
"""Seconds for one fetch. Envoy demands to be told (remote_jwks, timeout); its examples have 5."""
WAIT_TIMEOUT: Final = 2.0
"""Seconds for which a request waits for a fetch. An issuer across the world takes 0.5."""

log = logging.getLogger(__name__)

Fetch = Callable[[], Awaitable[bytes]]
"""Brings the document, or raises whatever it likes."""

Pause = Callable[[asyncio.Event, float], Awaitable[None]]
"""Returns when the event is set, or after so many seconds."""


async def pause(wanted: asyncio.Event, seconds: float) -> None:
    """See ``Pause``."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await wanted.wait()


class KeyMissing(GatewayError):
    """The key of a token is not there. It may be after ``await KeySet.refreshed(kid)``, so the
    token should be verified once more; if this is raised again, it is the answer."""

    def __init__(self, reason: str, kid: str | None) -> None:
        super().__init__(reason)
        self.kid = kid


class KeySet:
    """The keys of one issuer.

    :param name: what the log calls it, such as its URL.
    :param refresh: seconds from a successful fetch to the next.
    :param min_interval: seconds from any fetch to one that an unknown key causes.
    :param clock: seconds that never go back.
    :param jitter: returns 0 to 1.
    :param sleep: returns after so many seconds.
    """

    def __init__(
        self,
        name: str,
        fetch: Fetch,
        refresh: float = REFRESH,
        min_interval: float = MIN_INTERVAL,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Pause = pause,
        jitter: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.name = name
        self.epoch = 0
        """Changes whenever a key has left: what was verified with it holds no longer."""
        self._fetch = fetch
        self._refresh = refresh
        self._min_interval = min_interval
        self._clock = clock
        self._pause = pause
        self._jitter = jitter
        self._sleep = sleep
        self._keys: frozenset[Key] = frozenset()
        self._named: dict[tuple[str, str], Key] = {}
        self._kids: frozenset[str | None] = frozenset()
        self._skipped: tuple[tuple[str, str], ...] = ()
        self._failures = 0  # in a row
        self._said: set[type] = set()  # of this outage
        self._wanted = asyncio.Event()
        self._fetched: asyncio.Future[None] | None = None  # while a fetch is wanted or under way
        self._earliest = 0.0  # by the clock: when an unknown key may cause a fetch again
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        failing = f" failures={self._failures}" if self._failures else ""
        return f"<KeySet {self.name} keys={len(self._keys)}{failing}>"

    @property
    def ready(self) -> bool:
        """Whether there are keys."""
        return bool(self._keys)

    def start(self) -> None:
        """Fetches in the background from now on; ``refreshed(None)`` waits for the first time."""
        if self._task is None:
            self._fetched = asyncio.get_running_loop().create_future()
            self._task = asyncio.create_task(self._run(), name=f"keys of {self.name}")

    async def close(self) -> None:
        """Stops fetching; the keys stay. Whoever waits goes on."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            self._end_fetch()

    def find(self, kid: str | None, algorithm: str) -> Any:
        """The key that a token names, as PyJWT takes it. For one that names none: the only key that
        fits the algorithm.

        :raises KeyMissing: if there is no such key, and there may be later.
        :raises GatewayError: if there is one, and it is not for this algorithm; or if the token
            names none and several would fit.
        """
        if kid is not None:
            key = self._named.get((kid, algorithm))
            if key is not None:
                return key.public
            if kid in self._kids:
                raise GatewayError("token_algorithm")
        elif self._keys:
            fitting = [key for key in self._keys if algorithm in key.algorithms]
            if len(fitting) == 1:
                return fitting[0].public
            raise GatewayError("token_key_unknown")
        # During an outage nobody knows whether it is a new key: not the client's fault.
        reason = "auth_unavailable" if self._failures or not self._keys else "token_key_unknown"
        raise KeyMissing(reason, kid)

    async def refreshed(self, kid: str | None) -> None:
        """Waits, for ``WAIT_TIMEOUT`` seconds at most, for a fetch that begins from now on, and may
        bring this key. Raises nothing."""
        if self._task is None or (kid in self._kids if kid is not None else self.ready):
            return
        if self._fetched is None:
            self._fetched = asyncio.get_running_loop().create_future()
            self._wanted.set()
        await asyncio.wait([self._fetched], timeout=WAIT_TIMEOUT)

    async def _run(self) -> None:
        while True:
            if self._fetched is None:
                self._fetched = asyncio.get_running_loop().create_future()
            self._wanted.clear()
            self._earliest = self._clock() + self._min_interval
            try:
                async with asyncio.timeout(FETCH_TIMEOUT):
                    document = await self._fetch()
                self._take(document)
            except Exception as error:  # noqa: BLE001 - this task must outlive whatever it is
                self._fail(error)
            else:
                self._succeed()
            self._end_fetch()
            await self._pause(self._wanted, self._next_pause() * (1 - JITTER * self._jitter()))
            early = self._earliest - self._clock()
            if early > 0:
                await self._sleep(early)

    def _end_fetch(self) -> None:
        fetched, self._fetched = self._fetched, None
        if fetched is not None:
            fetched.set_result(None)

    def _next_pause(self) -> float:
        if not self._failures:
            return self._refresh
        return min(FIRST_RETRY * 2.0 ** min(self._failures - 1, 30), LAST_RETRY)

    def _take(self, document: bytes) -> None:
        """:raises ValueError: if the document is no key set, or has no key that can be used."""
        from siger_gateway.filters.jwks import parse_keys

        found, skipped = parse_keys(document)
        if skipped != self._skipped:
            self._skipped = skipped
            for kid, why in skipped:
                said = {"keys": self.name, "kid": kid, "why": why}
                log.warning("key cannot be used", extra={"fields": said})
        if not found:
            raise ValueError("there is no key in it that can be used")
        before, self._keys = self._keys, frozenset(found)
        if before == self._keys:
            return
        if before - self._keys:
            self.epoch += 1
        self._kids = frozenset(key.kid for key in found)
        self._named = {
            (key.kid, algorithm): key
            for key in found
            for algorithm in key.algorithms
            if key.kid is not None
        }
        fields: dict[str, object] = {
            "keys": self.name,
            "added": sorted(key.kid or "" for key in self._keys - before),
            "removed": sorted(key.kid or "" for key in before - self._keys),
        }
        log.info("keys changed", extra={"fields": fields})

    def _fail(self, error: Exception) -> None:
        self._failures += 1
        if type(error) not in self._said:
            self._said.add(type(error))
            fields = {"keys": self.name, "error": (str(error) or type(error).__name__)[:200]}
            unforeseen = not isinstance(error, OSError | ValueError | GatewayError)
            said = "keys cannot be fetched; those that are known stay"
            log.warning(said, extra={"fields": fields}, exc_info=unforeseen)

    def _succeed(self) -> None:
        if self._failures:
            self._failures = 0
            self._said.clear()
            log.info("keys are fetched again", extra={"fields": {"keys": self.name}})
