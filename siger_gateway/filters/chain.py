"""From the policy of a route to the flat tuple of exactly the filters that it uses.

The order is that of what a request may cost. Fields for browsers come first, for refusals need them
too; then what needs no more than a look: the address, a preflight, sizes. Limits by address stand
before the credentials, so that nobody can try keys without end; limits by user stand behind them.
"""

from __future__ import annotations

from siger_gateway.config.schema import RouteConfig
from siger_gateway.filters.access import access_filter
from siger_gateway.filters.authenticate import Authenticator, authenticate
from siger_gateway.filters.cors import cors_filter
from siger_gateway.filters.filter import Call, Filter, Verdict
from siger_gateway.filters.headers import security_headers
from siger_gateway.filters.rate_limit import Limits, concurrency, needs_identity, rate_limit
from siger_gateway.filters.sizes import size_filter

Filters = tuple[Filter, ...]


def compile_filters(
    policy: RouteConfig, limits: Limits, authenticator: Authenticator | None
) -> Filters:
    """The filters of a route, in the order in which they are asked.

    :param policy: the route, with the defaults of the file filled in.
    :param authenticator: there is one if any route asks for credentials.
    """
    filters: list[Filter] = []
    if policy.security_headers.enabled:
        filters.append(_browser_fields(policy))
    if policy.allow or policy.deny:
        filters.append(access_filter(policy.allow, policy.deny))
    if policy.cors.origins:
        filters.append(cors_filter(policy.cors))
    if policy.limits.body or policy.limits.header_bytes:
        filters.append(size_filter(policy.limits.body, policy.limits.header_bytes))
    configs = [(limits.limiter(policy.name, one), one) for one in policy.rate_limit]
    early = [one for one in configs if not needs_identity(one[1].key)]
    late = [one for one in configs if needs_identity(one[1].key)]
    if early:
        filters.append(rate_limit(early))
    if policy.asks_who:
        assert authenticator is not None, "the configuration has been checked"
        filters.append(authenticate(authenticator, policy.auth, policy.roles, policy.scopes))
    if late:
        filters.append(rate_limit(late))
    if policy.concurrency.requests:
        under_way = limits.under_way(policy.name, policy.concurrency)
        filters.append(concurrency(policy.concurrency, under_way))
    return tuple(filters)


def is_guarded(policy: RouteConfig) -> bool:
    """Whether it matters if a request comes by this route or by another one."""
    return bool(
        policy.asks_who
        or policy.allow
        or policy.deny
        or policy.rate_limit
        or policy.concurrency.requests
    )


def _browser_fields(policy: RouteConfig) -> Filter:
    fields = security_headers(policy.security_headers)

    def add(call: Call) -> Verdict:
        call.defaults = fields.https if call.scheme == b"https" else fields.http
        return None

    return add
