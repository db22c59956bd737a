"""What a token costs, remembered and not: ``PYTHONPATH=. python benchmarks/tokens.py``."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence

from siger_gateway.errors import GatewayError
from siger_gateway.filters.key_set import KeySet
from siger_gateway.filters.tokens import TokenVerifier
from tests.tokens import CLAIMS, ED25519, NOW, P256, RSA, SECRET, Private, jwk, key_set_of, token

KEYS: dict[str, Private | str] = {"HS256": SECRET, "RS256": RSA, "ES256": P256, "EdDSA": ED25519}
ROUNDS = 5


def microseconds(verify: Callable[[bytes], object], tokens: Sequence[bytes]) -> float:
    """The time of one, in the fastest round."""
    rounds = []
    for _ in range(ROUNDS):
        # As from a socket: bytes that nobody has seen, so their hash is not known yet.
        tokens = [bytes(bytearray(one)) for one in tokens]
        started = time.perf_counter()
        for one in tokens:
            with contextlib.suppress(GatewayError):
                verify(one)
        rounds.append(time.perf_counter() - started)
    return min(rounds) / len(tokens) * 1e6


def row(name: str, keys: KeySet, padding: int) -> str:
    key = KEYS[name]
    source: str | KeySet = key if isinstance(key, str) else keys
    claims = {**CLAIMS, "iss": "https://issuer.test", "padding": "x" * padding}
    tokens = [token({**claims, "jti": n}, key, name, kid=name) for n in range(1000)]
    warm = TokenVerifier(source, (name,))
    first = tokens[0]
    warm.verify(first, NOW)
    cached = microseconds(lambda one: warm.verify(one, NOW), [first] * 20_000)
    cold = TokenVerifier(source, (name,), capacity=1)
    uncached = microseconds(lambda one: cold.verify(one, NOW), tokens)
    forged = [one.rpartition(b".")[0] + b"." + first.rpartition(b".")[2] for one in tokens[1:]]
    refused = microseconds(lambda one: cold.verify(one, NOW), forged)
    return f"{name:6} {len(first):6} {cached:8.2f} {uncached:9.1f} {refused:8.1f}"


def main() -> None:
    keys = asyncio.run(key_set_of(*(jwk(KEYS[name], name) for name in ("RS256", "ES256", "EdDSA"))))
    print("                 us for one that is")
    print("alg     bytes   cached  uncached   forged")
    for padding in (0, 1500):
        for name in KEYS:
            print(row(name, keys, padding))


if __name__ == "__main__":
    main()
