"""How often, and how many at a time, one client may come: the filters, and who a client is.

The limits themselves are in ``gcra`` and ``concurrency``. They outlive a reload: what a client has
used up does not come back because the configuration was read again. And they are shared: of several
gateways each lets through its part of what is configured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from time import monotonic
from typing import Final

from siger_gateway.config.check_policies import limit_name
from siger_gateway.config.policies import ConcurrencyConfig, RateLimitConfig
from siger_gateway.errors import GatewayError
from siger_gateway.filters.concurrency import Concurrency
from siger_gateway.filters.filter import Call, Filter, Verdict
from siger_gateway.filters.gcra import Key, Limiter, Outcome, take_all
from siger_gateway.filters.networks import address_of
from siger_gateway.filters.rate_limit_fields import (
    RATELIMIT,
    Policy,
    limit_field,
    limit_item,
    policy_field,
    retry_after,
)

IPV6_HOST_BITS: Final = 64
"""Bits of an IPv6 address that its user chooses freely (RFC 4291 section 2.5.4): a limit for each
address would be none."""

KeyOf = Callable[[Call], Key]


class Limits:
    """The limits of all routes, by route and name of the limit."""

    def __init__(self) -> None:
        self._gateways = 1
        self._used: dict[tuple[str, str], tuple[Limiter, RateLimitConfig]] = {}
        self._known: dict[tuple[str, str], tuple[Limiter, RateLimitConfig]] = {}
        self._under_way: dict[tuple[str, ConcurrencyConfig], Concurrency] = {}

    def begin(self) -> None:
        """The routes are compiled anew: limits that none of them has any more are forgotten."""
        self._known, self._used = self._used, {}

    def limiter(self, route: str, config: RateLimitConfig) -> Limiter:
        """The limiter of a route, the same as before unless the limit is another one."""
        key = route, limit_name(config)
        found = self._used.get(key) or self._known.get(key)
        if found is None or replace(found[1], key=config.key) != config:
            found = Limiter(*self._share(config)), config
        self._used[key] = found[0], config
        return found[0]

    def under_way(self, route: str, config: ConcurrencyConfig) -> Concurrency:
        """What is under way on a route, the same as before unless the limit has changed."""
        found = self._under_way.get((route, config))
        if found is None:
            for old in [key for key in self._under_way if key[0] == route]:
                del self._under_way[old]
            found = self._under_way[route, config] = Concurrency(config.requests)
        return found

    def divide(self, gateways: int) -> None:
        """There are so many gateways, this one included, that share what is configured."""
        if gateways == self._gateways:
            return
        self._gateways = gateways
        for limiter, config in self._used.values():
            limiter.change(*self._share(config))

    def _share(self, config: RateLimitConfig) -> tuple[float, float, float]:
        burst = (config.burst or config.requests) / self._gateways
        # Less than a request could not be let through: the part is then too large by a little.
        return config.requests / self._gateways, config.per, max(burst, float(config.cost))


def rate_limit(limits: Sequence[tuple[Limiter, RateLimitConfig]]) -> Filter:
    """Lets through what all of ``limits`` do, and tells how much there is left.

    :param limits: at least one.
    """
    policies = [
        Policy(limit_name(one), one.requests, one.per, one.burst or one.requests)
        for _, one in limits
    ]
    if len(limits) == 1:
        limiter, config = limits[0]
        return _single_limit(limiter, policies[0], key_of(config.key), config.cost)
    told = policy_field(policies)
    parts = [(limiter, key_of(one.key), one.cost) for limiter, one in limits]

    def check(call: Call) -> Verdict:
        now = monotonic()
        outcomes = take_all([(limiter, key(call), cost) for limiter, key, cost in parts], now)
        call.to_client += (told, limit_field(list(zip(policies, outcomes, strict=True))))
        return _refusal(outcomes) if any([one.retry_after for one in outcomes]) else None

    return check


def _single_limit(limiter: Limiter, policy: Policy, key: KeyOf, cost: int) -> Filter:
    told = policy_field((policy,))
    take = limiter.take

    def check(call: Call) -> Verdict:
        outcome = take(key(call), monotonic(), cost)
        call.to_client += (told, (RATELIMIT, limit_item(policy, outcome)))
        return _refusal((outcome,)) if outcome.retry_after else None

    return check


def _refusal(outcomes: Sequence[Outcome]) -> GatewayError:
    later = retry_after(outcomes)
    return GatewayError(
        "rate_limited", headers={} if later is None else {"Retry-After": later[1].decode()}
    )


def concurrency(config: ConcurrencyConfig, under_way: Concurrency) -> Filter:
    """Lets through who has fewer than the limit under way."""
    key = key_of(config.key)

    def check(call: Call) -> Verdict:
        who = key(call)
        if not under_way.enter(who):
            return GatewayError("too_many_concurrent", headers={"Retry-After": "1"})
        call.on_end.append(lambda: under_way.leave(who))
        return None

    return check


def key_of(config: str) -> KeyOf:
    """Who counts as one client. Where a user, a key or a field is missing, it is the address: who
    leaves it out must not be free of the limit. Kinds are told apart by their first member, so that
    nobody can call himself by another's address."""
    if config == "client_ip":
        return _by_address
    if config == "user":
        return _by_user
    if config == "api_key":
        return _by_api_key
    name = config.removeprefix("header:").encode()

    def by_field(call: Call) -> Key:
        value = call.request.fields.get(name)
        return ("header", value) if value else _by_address(call)

    return by_field


def needs_identity(config: str) -> bool:
    """Whether the limit can only be looked at once it is known who asks."""
    return config in ("user", "api_key")


def _by_address(call: Call) -> Key:
    client = call.client
    if ":" in client:
        address = address_of(client)
        if address is not None and address.version == 6:
            return ("net", str(int(address) >> IPV6_HOST_BITS))
    return client


def _by_user(call: Call) -> Key:
    return ("user", call.identity.user) if call.identity is not None else _by_address(call)


def _by_api_key(call: Call) -> Key:
    identity = call.identity
    if identity is None or not identity.key_id:
        return _by_user(call)
    return ("key", identity.key_id)
