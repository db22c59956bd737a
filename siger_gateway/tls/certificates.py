"""The listener's certificates: which one a client gets, and how they are renewed while serving.

Every new connection asks for ``context`` anew, so a renewal is one assignment: handshakes from then
on get the new certificates (and new ticket keys), connections that exist keep what they have. The
files are looked at every second (``LOOK_INTERVAL``); certbot and cert-manager replace them (or the
symlinks on the way to them), nobody has to send a signal. A new pair that cannot be used is logged
once and the old one stays; a certificate and a key that are replaced one after the other do not
fit for a moment, and are taken when the second one has come.
"""

from __future__ import annotations

import logging
import os
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from siger_gateway.tls.contexts import (
    ClientAuth,
    FileProblem,
    KeyPair,
    MinVersion,
    read_text,
    server_context,
)
from siger_gateway.tls.x509 import Certificate, NotACertificate, read_pem

LOOK_INTERVAL: Final = 1.0
"""Seconds between two looks at the files: a few ``stat`` calls."""
EXPIRES_SOON: Final = 14 * 86400.0
"""Seconds before the end of a certificate at which the log warns. ACME clients renew 30 days (90
day certificates) or a third of the time (shorter ones) before it: by then something has failed."""
WARN_INTERVAL: Final = 86400.0
"""Seconds between two such warnings."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServerFiles:
    """What the listener is to present and to demand. ``pairs``: the first one is the default;
    ``client_ca`` "": no client certificate is asked for."""

    pairs: tuple[KeyPair, ...]
    min_version: MinVersion = "1.2"
    client_ca: str = ""
    client_auth: ClientAuth = "required"

    @property
    def files(self) -> tuple[str, ...]:
        files = tuple(file for pair in self.pairs for file in pair.files)
        return (*files, self.client_ca) if self.client_ca else files


class Certificates:
    """The certificates in use.

    :param outcomes: where handshakes are counted, by how they ended.
    :raises FileProblem: if a file cannot be used.
    """

    def __init__(self, source: ServerFiles, outcomes: dict[str, int]) -> None:
        self.source = source
        self.outcomes = outcomes
        self._state = file_state(source.files)
        self.context, self.presented = load_server(source)
        """``presented``: the file of each certificate, and what it says."""
        self._next_look = 0.0
        self._next_warning = 0.0

    def replace(self, source: ServerFiles) -> None:
        """Takes over other files, or the same ones read anew.

        :raises FileProblem: if one cannot be used; then nothing has changed.
        """
        state = file_state(source.files)  # before reading: a change during it is seen later
        self.context, self.presented = load_server(source)
        self.source = source
        self._state = state
        self._next_warning = 0.0

    def look(self, now: float) -> None:
        """Takes over files that have changed; ``now`` is the loop's time. Raises nothing."""
        if now < self._next_look:
            return
        self._next_look = now + LOOK_INTERVAL
        state = file_state(self.source.files)
        if state != self._state:
            self._state = state
            try:
                self.replace(self.source)
            except FileProblem as problem:
                fields = {"file": problem.file, "error": problem.why}
                log.error("changed certificate is not used", extra={"fields": fields})
            else:
                log.info("certificates renewed", extra={"fields": {"files": self.source.files}})
        if now >= self._next_warning:
            self._next_warning = now + WARN_INTERVAL
            self._warn()

    def _warn(self) -> None:
        for file, certificate in self.presented:
            left = certificate.not_after - time.time()
            if left < EXPIRES_SOON:
                fields = {"file": file, "days_left": round(left / 86400, 1)}
                said = "certificate has expired" if left < 0 else "certificate expires soon"
                log.warning(said, extra={"fields": fields})

    def samples(self) -> Iterator[tuple[tuple[str, ...], float]]:
        """For a gauge by file: the Unix time at which each certificate ends."""
        for file, certificate in self.presented:
            yield (file,), certificate.not_after


def load_server(source: ServerFiles) -> tuple[ssl.SSLContext, tuple[tuple[str, Certificate], ...]]:
    """The context for accepted connections, and what the certificates in it say.

    :raises FileProblem: if a file cannot be used.
    """
    presented: list[tuple[str, Certificate]] = []
    contexts: list[ssl.SSLContext] = []
    for pair in source.pairs:
        contexts.append(
            server_context(pair, source.min_version, source.client_ca, source.client_auth)
        )
        try:
            presented.append((pair.cert, read_pem(read_text("cert", pair.cert))))
        except NotACertificate as error:
            raise FileProblem("cert", pair.cert, str(error)) from None
    default = contexts[0]
    if len(contexts) > 1:
        by_name: dict[str, ssl.SSLContext] = {}
        for context, (_, certificate) in zip(contexts, presented, strict=True):
            for name in certificate.names:
                by_name.setdefault(name, context)

        def choose(
            connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext
        ) -> None:
            chosen = for_name(by_name, name)
            if chosen is not None and chosen is not default:
                connection.context = chosen

        default.sni_callback = choose
    return default, tuple(presented)


def for_name(by_name: Mapping[str, ssl.SSLContext], name: str | None) -> ssl.SSLContext | None:
    """The context whose certificate has ``name``, itself or as ``*.parent``: a wildcard stands for
    exactly one label (RFC 6125 section 6.4.3)."""
    if not name:
        return None
    name = name.lower().removesuffix(".")
    return by_name.get(name) or by_name.get("*." + name.partition(".")[2])


FileState = tuple[tuple[int, ...] | None, ...]


def file_state(files: Iterable[str]) -> FileState:
    """Equal as long as nobody has touched the files, or who may read them; follows symlinks."""
    return tuple(_state(file) for file in files)


def _state(file: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(file)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_ctime_ns, found.st_size
