"""What tokens may be signed with: which algorithms go together, and which secrets can be guessed.

Whoever holds one token can try secrets against it, at 10^9 a second and more, without asking the
gateway. So a secret has to be as long as the hash, and random. The second cannot be seen; what can
is that it is one that people copy from examples, or repeats itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal

SECRET_ALGORITHMS: Final = {"HS256": 32, "HS384": 48, "HS512": 64}
"""Algorithms with a shared secret, and the bytes that it needs (RFC 7518 section 3.2)."""

KEY_ALGORITHMS: Final = frozenset(
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
)
"""Algorithms with a key pair. ``none`` is in neither table, and cannot be configured."""

_EXAMPLES: Final = """
0123456789 123456789 12345678 123456 1234 128 192 256 384 512 32 48 64 16
a abc access admin an api app as at auth backend be bearer bit bits by byte bytes
change changed changeit changeme changethis char character characters chars dante
default demo dev develop development do dummy enter env example fallback fill foo bar
for gateway generate generated good hard hello here hmac hs256 hs384 hs512 in insecure
insert is it json jwt key keyboard least length local long longer me min minimum more
must my no not of only or password passphrase phrase placeholder please private prod
production put qwerty random real refresh replace replaceme replacewith safe sample
secret secrets secretkey secure server service set sha256 shared should siger sign
signing some something string strong super supersecret temp test testing that the this
to todo token tokens true unsafe update us use user value very web with world xxx you
your
"""
_WORDS: Final = frozenset(_EXAMPLES.split())
"""The words of which the secrets in examples are made."""


def misfit(algorithms: Sequence[str], source: Literal["secret", "keys"]) -> str:
    """Why these algorithms cannot be used with this; "" if they can.

    :param source: ``secret``, one that is shared, or ``keys``, a set of public ones.
    """
    if not algorithms:
        return "no algorithm is named"
    for algorithm in algorithms:
        if algorithm in SECRET_ALGORITHMS:
            # RFC 8725 section 2.1: a public key taken for a secret lets everybody sign.
            if source != "secret":
                return f"{algorithm} needs a secret, not public keys"
        elif algorithm not in KEY_ALGORITHMS:
            known = ", ".join(sorted({*SECRET_ALGORITHMS, *KEY_ALGORITHMS}))
            return f'"{algorithm}" is not an algorithm that can be used; there are {known}'
        elif source != "keys":
            return f"{algorithm} needs public keys (a JWKS), not a secret"
    return ""


def weak_secret(secret: str, algorithms: Sequence[str]) -> str:
    """Why the secret can be guessed; "" if that does not show.

    :param algorithms: those of ``SECRET_ALGORITHMS`` that it is for.
    """
    needed, algorithm = max((SECRET_ALGORITHMS[one], one) for one in algorithms)
    if not secret:
        return "it is empty"
    if _is_made_of_words(re.sub("[^a-z0-9]", "", secret.lower())):
        return "it is a placeholder, such as stand in examples"
    length = _bytes(secret)
    if length < needed:
        return f"it is {length} bytes long; {algorithm} needs {needed}"
    period = (secret + secret).find(secret, 1)
    if _bytes(secret[:period]) < needed:
        return f"it repeats {period} characters" if period > 1 else "it repeats one character"
    return ""


def _is_made_of_words(letters: str) -> bool:
    ends = {0} if letters else set()
    for start in range(len(letters)):
        if start in ends:
            ends |= {start + len(word) for word in _WORDS if letters.startswith(word, start)}
    return len(letters) in ends


def _bytes(text: str) -> int:
    return len(text.encode(errors="surrogateescape"))
