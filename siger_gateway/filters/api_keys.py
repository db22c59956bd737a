"""API keys: how they are made, and who comes with one.

The file (``api_key_file``) holds hashes, so whoever reads it gets no key. It is looked at every
second and taken over when it has changed, as certificates are: to hand out or take back a key needs
no signal. A file with any mistake is logged once and the old keys stay, all of them. Reading takes
0.4 ms a key, and nothing else is served meanwhile.

To replace a key without a gap, a user has two for a while: write the new one into the file, change
the client, remove the old one (or let it expire).
"""

from __future__ import annotations

import logging
import os
import stat
from hashlib import sha256
from hmac import compare_digest
from secrets import token_urlsafe
from typing import Final

from siger_gateway.config.problem import ConfigError
from siger_gateway.errors import GatewayError
from siger_gateway.filters.api_key_file import PREFIX, load_keys
from siger_gateway.filters.identity import Identity
from siger_gateway.tls.certificates import LOOK_INTERVAL, file_state

KEY_BYTES: Final = 32
"""256 bits from the system's random source: 43 characters of base64url."""

MAX_KEY: Final = 256
"""Bytes of a key that are hashed at all; ours have 49, those of others rarely 100."""

MAX_LOGGED: Final = 20
"""Problems of one file that the log tells."""

log = logging.getLogger(__name__)


def new_key() -> str:
    """A key that nobody had before. It is nowhere kept: whoever makes it shows it once."""
    return PREFIX + token_urlsafe(KEY_BYTES)


def hash_of(key: str) -> str:
    """What stands for ``key`` in the file."""
    return "sha256:" + sha256(key.encode()).hexdigest()


class ApiKeys:
    """The keys in use.

    :param path: the file.
    :raises ConfigError: with everything that is wrong with it.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._state = file_state((path,))  # before reading: a change during it is seen later
        self._keys = load_keys(path)
        self._next_look = 0.0
        _warn_of_access(path)

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"<ApiKeys {self.path} {len(self)} keys>"

    def look(self, now: float) -> None:
        """Takes over the file if it has changed; ``now`` is the loop's time. Raises nothing."""
        if now < self._next_look:
            return
        self._next_look = now + LOOK_INTERVAL
        state = file_state((self.path,))
        if state == self._state:
            return
        self._state = state
        try:
            self._keys = load_keys(self.path)
        except ConfigError as error:
            said = [str(problem) for problem in error.problems[:MAX_LOGGED]]
            fields = {"file": self.path, "problems": said, "count": len(error.problems)}
            log.error("changed API keys are not used", extra={"fields": fields})
        else:
            fields = {"file": self.path, "keys": len(self)}
            log.info("API keys renewed", extra={"fields": fields})
            _warn_of_access(self.path)

    def identify(self, key: bytes, now: float) -> Identity:
        """Who comes with ``key``, as the client has sent it.

        No cache of answers: all of this takes 0.6 us, of which 0.3 us are the hash
        (``python -m benchmarks.filters``).

        :param now: Unix time, in seconds.
        :raises GatewayError: ``api_key_unknown`` or ``api_key_expired``.
        """
        if len(key) > MAX_KEY:
            raise GatewayError("api_key_unknown")
        digest = sha256(key).digest()
        # How long a look-up takes may depend on the digest, and tells nothing about the keys: who
        # changes a byte of a guess changes the whole digest, so nobody can approach a stored one
        # byte by byte; and Python's hash of bytes is keyed anew in every process (PEP 456).
        found = self._keys.get(digest)
        if found is None or not compare_digest(found.digest, digest):
            raise GatewayError("api_key_unknown")
        identity = found.identity
        if now >= identity.expires:
            raise GatewayError("api_key_expired")
        return identity


def _warn_of_access(path: str) -> None:
    """The hashes open nothing, but who may write here can let anybody in."""
    try:
        mode = os.stat(path).st_mode
    except OSError:  # gone since it was read: the next look tells
        return
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        may = "write" if mode & stat.S_IWOTH else "read"
        fields = {"file": path, "mode": f"{stat.S_IMODE(mode):04o}"}
        log.warning(f"every user of this machine may {may} the API keys", extra={"fields": fields})
