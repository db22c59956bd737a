"""What decides who gets in, built from the configuration and kept over reloads.

Filters know neither discovery nor other services: what they need of them, they get from here. The
keys of an issuer come over Tornado's client, the verdict of a service over the gateway's own pooled
connections to it, and how many gateways share a limit from Consul.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from siger_gateway.config.schema import Config
from siger_gateway.filters.authenticate import Authenticator
from siger_gateway.filters.forward_auth import Answer, ForwardAuth
from siger_gateway.filters.jwks_fetch import fetching
from siger_gateway.filters.key_set import KeySet
from siger_gateway.filters.rate_limit import Limits
from siger_gateway.http.headers import Headers
from siger_gateway.upstream.cluster import Cluster
from siger_gateway.upstream.fetch import fetch

MAX_VERDICT: Final = 64 * 1024
"""Bytes of a body that comes with a verdict; nobody reads it."""


class Guard:
    """The means of authentication and the limits of one gateway.

    :param cluster: by the name of its service.
    :raises ConfigError: if a file that the configuration names cannot be used.
    """

    def __init__(self, config: Config, cluster: Callable[[str], Cluster]) -> None:
        self.limits = Limits()
        self._cluster = cluster
        self._started = False
        self._closing: set[asyncio.Task[None]] = set()
        self._config = config.auth
        self.authenticator = self._build(config)

    def _build(self, config: Config) -> Authenticator | None:
        auth = config.auth
        if not auth.enabled:
            return None
        jwt = auth.jwt
        keys = None
        if jwt.jwks_url:
            keys = KeySet(jwt.jwks_url, fetching(jwt.jwks_url), refresh=jwt.refresh)
        return Authenticator(auth, keys, self._forward(config))

    def _forward(self, config: Config) -> ForwardAuth | None:
        forward = config.auth.forward
        if not forward.service:
            return None
        target = forward.path.encode()

        async def ask(headers: Headers) -> Answer:
            cluster = self._cluster(forward.service)  # a reload may have made another one
            return await fetch(cluster, target, headers, forward.timeout, MAX_VERDICT)

        return ForwardAuth(
            ask,
            tuple(name.encode() for name in forward.fields),
            forward.user_field.encode(),
            forward.roles_field.encode(),
            forward.cache,
        )

    @property
    def credentials(self) -> tuple[str, ...]:
        """Names of fields with credentials that are for the gateway alone."""
        return (self._config.api_key_header,) if self._config.api_keys else ()

    def start(self) -> None:
        self._started = True
        if self.authenticator is not None:
            self.authenticator.start()

    def prepare(self, config: Config) -> Callable[[], None]:
        """Makes ready for another configuration; what is returned takes it over, and cannot fail.

        What has not changed stays: keys that were fetched, tokens that were verified.

        :raises ConfigError: as the constructor; then nothing has changed.
        """
        if config.auth == self._config:
            return lambda: None
        fresh = self._build(config)

        def take_over() -> None:
            old, self.authenticator, self._config = self.authenticator, fresh, config.auth
            if fresh is not None and self._started:
                fresh.start()
            if old is not None:
                task = asyncio.get_running_loop().create_task(old.close())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)

        return take_over

    def look(self, now: float) -> None:
        """Takes over files that have changed; ``now`` is the loop's time."""
        if self.authenticator is not None:
            self.authenticator.look(now)

    async def close(self) -> None:
        if self.authenticator is not None:
            await self.authenticator.close()
        await asyncio.gather(*self._closing)
