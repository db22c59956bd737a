"""Files -> ``ssl.SSLContext``: the one place that says which TLS is spoken.

TLS 1.2 and 1.3, and in 1.2 only ciphers with forward secrecy and authenticated encryption:
Mozilla's "intermediate" list, version 5.7, without its DHE entries, which need parameters of their
own and which no client of today is in want of.

The groups of the key exchange are OpenSSL's own choice. Python before 3.15 can set a single one,
which would keep out either the clients without X25519 or, with newer OpenSSL, the hybrid group that
is safe from quantum computers. All that OpenSSL offers give 128 bits or more.

OpenSSL's messages name neither the file nor what is wrong in words that help; ``FileProblem`` does.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

CIPHERS_12: Final = ":".join(
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
    )
)
"""Of TLS 1.2, in OpenSSL's words; those of 1.3 are all good and not affected by it."""

MinVersion = Literal["1.2", "1.3"]
ClientAuth = Literal["required", "optional"]
Verify = Literal["full", "none"]

_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_VERIFY: Final = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL}
_ALPN: Final = ("h2", "http/1.1")
"""RFC 7301; of what a client offers, the first of these is chosen."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Two files of PEM: ``cert`` holds the certificate and then its intermediates. ``key`` may be
    "": then the key stands in ``cert`` too."""

    cert: str
    key: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        return (self.cert, self.key) if self.key else (self.cert,)


class FileProblem(Exception):
    """A file cannot be used. ``what`` is ``cert``, ``key`` or ``ca``; ``why`` a sentence."""

    def __init__(self, what: Literal["cert", "key", "ca"], file: str, why: str) -> None:
        super().__init__(f"{file}: {why}")
        self.what = what
        self.file = file
        self.why = why


def server_context(
    pair: KeyPair, min_version: MinVersion, client_ca: str, client_auth: ClientAuth
) -> ssl.SSLContext:
    """For accepted connections.

    :param client_ca: PEM file with the authorities whose client certificates are accepted; "": no
        certificate is asked for.
    :raises FileProblem: if a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context, min_version)
    context.set_alpn_protocols(_ALPN)
    _load_pair(context, pair)
    if client_ca:
        _load_authorities(context, client_ca)
        context.verify_mode = _VERIFY[client_auth]
    return context


def client_context(
    ca: str, pair: KeyPair | None, verify: Verify, alpn: str = "http/1.1"
) -> ssl.SSLContext:
    """For connections to a service.

    :param alpn: the protocol to speak.
    :param ca: PEM file with the authorities to trust; "": those of the system.
    :param pair: what the gateway identifies itself with, if it does.
    :param verify: ``none`` accepts whatever answers, which is no protection against anybody.
    :raises FileProblem: if a file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context, "1.2")
    context.set_alpn_protocols([alpn])
    if verify == "none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca:
        _load_authorities(context, ca)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if pair is not None:
        _load_pair(context, pair)
    return context


def _harden(context: ssl.SSLContext, min_version: MinVersion) -> None:
    context.minimum_version = _VERSIONS[min_version]
    context.set_ciphers(CIPHERS_12)
    # A renegotiation costs the side that is asked ten times what it costs the one who asks.
    context.options |= ssl.OP_NO_RENEGOTIATION


def read_text(what: Literal["cert", "key", "ca"], file: str) -> str:
    """The content of a PEM file. :raises FileProblem: if it cannot be read."""
    try:
        return Path(file).read_text(encoding="latin-1")  # there may be remarks between the blocks
    except FileNotFoundError:
        raise FileProblem(what, file, "there is no such file") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "this is not a file name"
        raise FileProblem(what, file, f"cannot be read: {why}") from None


class _Encrypted(Exception):
    """OpenSSL asks for the password of a key."""


def _ask_nobody() -> bytes:
    raise _Encrypted  # OpenSSL itself would ask on the terminal, and wait


def _load_pair(context: ssl.SSLContext, pair: KeyPair) -> None:
    if "-----BEGIN CERTIFICATE-----" not in read_text("cert", pair.cert):
        raise FileProblem("cert", pair.cert, "there is no certificate in it")
    what: Literal["cert", "key"] = "key" if pair.key else "cert"
    key = pair.key or pair.cert
    if "PRIVATE KEY-----" not in read_text(what, key):
        raise FileProblem(what, key, "there is no private key in it")
    try:
        context.load_cert_chain(pair.cert, key, _ask_nobody)
    except _Encrypted:
        raise FileProblem(what, key, "the private key is encrypted") from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH" or error.reason == "KEY_TYPE_MISMATCH":
            why = f"the private key is not that of the certificate in {pair.cert}"
            raise FileProblem(what, key, why) from None
        if _is_damaged(pair.cert):
            raise FileProblem("cert", pair.cert, "its certificate is damaged") from None
        why = f"the private key cannot be used: {error.reason or 'it is damaged'}"
        raise FileProblem(what, key, why) from None
    except OSError as error:  # gone between the two readings
        raise FileProblem("cert", pair.cert, f"cannot be read: {error.strerror}") from None


def _is_damaged(cert: str) -> bool:
    """Whether it is the certificate that OpenSSL cannot read; it does not say."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=cert)
    except OSError:
        return True
    return False


def _load_authorities(context: ssl.SSLContext, ca: str) -> None:
    if "-----BEGIN CERTIFICATE-----" not in read_text("ca", ca):
        raise FileProblem("ca", ca, "there is no certificate in it")
    try:
        context.load_verify_locations(cafile=ca)
    except OSError:  # SSLError is one
        raise FileProblem("ca", ca, "a certificate in it is damaged") from None
