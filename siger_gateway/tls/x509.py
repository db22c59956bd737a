"""What a certificate says of itself, read from its DER (X.690) form.

Python's ``ssl`` tells names and dates of a *peer's* verified certificate only. A server needs those
of its own: to choose by SNI, and to say when it expires. These are two fields at fixed places
(RFC 5280 section 4.1), so this walks the few tags on the way there. OpenSSL has loaded the same
file before: nothing here decides about trust.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

_PEM: Final = re.compile(
    "-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL | re.ASCII
)
_EXTENSIONS: Final = 0xA3  # [3] EXPLICIT, in TBSCertificate
_VERSION: Final = 0xA0  # [0] EXPLICIT
_OCTET_STRING: Final = 0x04
_UTC_TIME: Final = 0x17
_DNS_NAME: Final = 0x82  # [2] of GeneralName
_SUBJECT_ALT_NAME: Final = bytes.fromhex("551d11")  # 2.5.29.17


@dataclass(frozen=True, slots=True)
class Certificate:
    """``names``: DNS names in lower case, as in ``*.example.com``. ``not_after``: Unix time."""

    names: tuple[str, ...]
    not_after: float


class NotACertificate(ValueError):
    """The bytes are something else."""


def read_pem(text: str) -> Certificate:
    """The first certificate of a PEM file, which is the server's own (RFC 8446 section 4.4.2).

    :raises NotACertificate: if there is none.
    """
    found = _PEM.search(text)
    if found is None:
        raise NotACertificate("there is no certificate in it")
    try:
        return read_der(ssl.PEM_cert_to_DER_cert(found[0]))
    except ValueError as error:
        raise NotACertificate("its first certificate is damaged") from error


def read_der(der: bytes) -> Certificate:
    """:raises NotACertificate: if ``der`` has not the form of a certificate."""
    try:
        return _read(der)
    except (IndexError, ValueError, StopIteration) as error:
        raise NotACertificate("not a certificate") from error


def _read(der: bytes) -> Certificate:
    _, certificate = next(_elements(der))
    _, to_be_signed = next(_elements(certificate))
    parts = list(_elements(to_be_signed))
    if parts[0][0] == _VERSION:
        del parts[0]
    validity = parts[3][1]  # after serialNumber, signature and issuer
    _, not_after = _elements(validity)
    extensions = next((content for tag, content in parts if tag == _EXTENSIONS), None)
    names: tuple[str, ...] = ()
    if extensions is not None:
        _, listed = next(_elements(extensions))
        for _, extension in _elements(listed):
            identifier, *_, value = _elements(extension)
            if identifier[1] == _SUBJECT_ALT_NAME and value[0] == _OCTET_STRING:
                _, general_names = next(_elements(value[1]))
                names = tuple(
                    content.decode("ascii").lower()
                    for tag, content in _elements(general_names)
                    if tag == _DNS_NAME
                )
    return Certificate(names, _time(*not_after))


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each element in ``data``. Tags above 30 do not occur in certificates."""
    at = 0
    while at < len(data):
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:  # the long form: that many bytes of length
            size = length & 0x7F
            length = int.from_bytes(data[at : at + size], "big")
            at += size
        if at + length > len(data):
            raise ValueError("cut short")
        yield tag, data[at : at + length]
        at += length


def _time(tag: int, content: bytes) -> float:
    text = content.decode("ascii")
    if tag == _UTC_TIME:  # two digits of the year; 50 means 1950 (RFC 5280 section 4.1.2.5.1)
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
