"""The words of the configuration's schema: kinds of values, and what is said about a field.

Each ``Annotated`` word names the parser in ``values.py`` that turns its text into a value.
"""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any, Final

Duration = Annotated[float, "duration"]
"""Seconds, written ``250ms``, ``30s``, ``5m``, ``24h``."""
Size = Annotated[int, "size"]
"""Bytes, written ``512``, ``64KiB``, ``10MiB``, ``1GiB``."""
Percent = Annotated[float, "percent"]
"""A share from 0 to 1, written ``50%``."""
ListenAddress = Annotated[str, "listen address"]
"""``:8080`` (every interface), ``127.0.0.1:8080``, ``[::1]:8080`` or a bare port number."""
HostPort = Annotated[str, "host:port"]
"""``name:port``, ``127.0.0.1:9001`` or ``[::1]:9001``; the port is required."""
Token = Annotated[str, "token"]
"""Letters, digits, ``_`` and ``-``: safe in a subject, a label and a path. 1 to 64 characters."""
PathPrefix = Annotated[str, "path"]
"""Begins with ``/``; no ``?``, ``#``, space, dot segment or empty segment."""
PathTemplate = Annotated[str, "path template"]
"""A path in which whole segments may be ``{names}``, each name once."""
Network = Annotated[str, "network"]
"""``10.0.0.0/8``, ``fd00::/8`` or a single address."""
ConsulAddress = Annotated[str, "consul address"]
"""``host:port``; a leading ``http://`` is accepted and removed."""
NatsAddress = Annotated[str, "nats address"]
"""``host:port``, or several with commas; a leading ``nats://`` is accepted and removed."""
Address = Annotated[str, "address"]
"""A host, or ``host:port``."""
ServerName = Annotated[str, "server name"]
"""A host name or an IP address, without port."""
ServiceName = Annotated[str, "service name"]
"""A name as Consul has it: letters, digits, ``.``, ``_`` and ``-``. 1 to 128 characters."""
ExposedName = Annotated[str, "exposed name"]
"""A service name, or ``*`` for all of them."""
Method = Annotated[str, "method"]
"""An HTTP method (RFC 9110 section 9.1) in upper case."""
HostName = Annotated[str, "host name"]
"""A host in lower case without port."""
RetryCondition = Annotated[str, "retry condition"]
"""``connect``, ``reset``, or a status from 400 to 599."""
HostPattern = Annotated[str, "host"]
"""A host in lower case without port, or ``*.suffix``."""
HeaderName = Annotated[str, "header name"]
"""A field name (RFC 9110 section 5.1); kept in lower case."""
HashKey = Annotated[str, "hash key"]
"""``client_ip``, ``path``, ``header:NAME`` or ``cookie:NAME``."""
HeaderValue = Annotated[str, "header value"]
"""A field value (RFC 9110 section 5.5) of printable ASCII characters."""
Text = Annotated[str, "text"]
"""Any text, with line breaks and tabs."""

Url = Annotated[str, "url"]
"""``http://`` or ``https://``, with a host, without credentials and fragment."""
Word = Annotated[str, "word"]
"""A role or a scope: printable ASCII without spaces, commas and quotes. 1 to 128 characters."""
LimitKey = Annotated[str, "limit key"]
"""``client_ip``, ``user``, ``api_key`` or ``header:NAME``."""
HostHeader = Annotated[str, "host header"]
"""``preserve``, ``endpoint``, or the host to say, with or without a port."""

MOMENT: Final = 0.001
"""Seconds: the shortest timeout that is accepted; below it the event loop has no resolution."""


def doc(text: str, default: Any = ..., **rules: Any) -> Any:
    """A field with its documentation; ``...`` means that the key is required.

    :param rules: ``least`` and ``most`` (inclusive, in the unit of the field), ``one_of`` (a tuple
        of the only values), ``secret`` (the value never appears in a message), ``empty`` (``""`` is
        a value too; always so where it is the default), ``alone`` (of a list with one item, the
        item may stand without the list).
    """
    metadata = {"doc": text, **rules}
    if default is ...:
        return field(metadata=metadata)
    if isinstance(default, type):  # a nested class: its own defaults
        return field(default_factory=default, metadata=metadata)
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)
