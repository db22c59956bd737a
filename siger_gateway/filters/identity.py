"""Who a request comes from, once that is known."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

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
