"""Changes that a route makes to header fields, compiled from ``headers`` of the configuration.

The configuration refuses edits of fields that frame a message or that the gateway itself sets
(``config/actions.py``), so whatever stands here may be applied as the last thing before a head is
written.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from siger_gateway.config import schema
from siger_gateway.http.headers import Headers

HYPHEN, UNDERSCORE = b"-", b"_"


class Edits:
    """What becomes of the fields of one message.

    Names that differ by ``-`` and ``_`` only are taken for the same: to a service that reads fields
    as CGI variables (RFC 3875 section 4.1.18) they are, so ``x_admin`` must not get past the
    removal of ``x-admin``.
    """

    __slots__ = ("_append", "_drop")

    def __init__(self, edits: schema.HeaderEdits) -> None:
        replaced = [name.encode() for name in (*edits.remove, *edits.set)]
        self._drop = frozenset(
            spelling for name in replaced for spelling in (name, name.replace(UNDERSCORE, HYPHEN))
        )
        added = (*edits.set.items(), *edits.add.items())
        self._append = [(name.encode(), value.encode()) for name, value in added]

    def apply(self, headers: Headers) -> Headers:
        """The fields of a head, edited; a new list."""
        return [*self.without(headers), *self._append]

    def without(self, headers: Headers) -> Headers:
        """Without the fields that are removed or replaced: all that happens to trailers."""
        drop = self._drop
        return [
            field
            for field in headers
            if field[0] not in drop
            and (UNDERSCORE not in field[0] or field[0].replace(UNDERSCORE, HYPHEN) not in drop)
        ]


def compile_edits(edits: schema.HeaderEdits, also: Iterable[str] = ()) -> Edits | None:
    """None when nothing is to be done: then it costs a comparison.

    :param also: names of fields that are removed as well.
    """
    removed = (*edits.remove, *(name for name in also if name not in edits.remove))
    edits = replace(edits, remove=removed)
    return None if edits == schema.HeaderEdits() else Edits(edits)
