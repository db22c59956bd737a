"""Who a request comes from, once that is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Literal

from siger_gateway.http.headers import Headers

Means = Literal["jwt", "api_key", "mtls", "forward"]


@dataclass(frozen=True, slots=True)
class Identity:
    """An authenticated user.

    :param user: never empty, printable ASCII without spaces at its ends; safe as a field value.
    :param means: how it has been shown.
    :param expires: Unix time, in seconds, from which this no longer holds.
    :param key_id: which API key has shown it, as the file of keys calls it; for the log.
    """

    user: str
    means: Means
    roles: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    expires: float = inf
    key_id: str = ""
    headers: Headers = field(init=False, repr=False, compare=False)
    """What services are told of the user; made once, for tokens and keys are used again and again.
    Shared: never changed."""

    def __post_init__(self) -> None:
        headers: Headers = [(b"x-user-id", self.user.encode())]
        # Between commas a role with a comma would be two others.
        roles = ",".join(sorted(role for role in self.roles if "," not in role))
        if roles:
            headers.append((b"x-user-role", roles.encode()))
        object.__setattr__(self, "headers", headers)
