"""What a service, or a redirect's Location, gets in place of the path that was asked for.

Rewriting moves whole segments and touches no byte of them: what was percent-encoded stays so, and
the query string is carried over as it came. Only where the *replaced* prefix was written in another
way than the route has it (``/%61pi`` for ``/api``) does the normal form of the path take its place.
"""

from __future__ import annotations

from typing import Final

from siger_gateway.config.schema import MatchConfig

ASTERISK: Final = b"*"
"""The target of ``OPTIONS *`` (RFC 9112 section 3.2.4): there is no path in it."""


class PrefixRewrite:
    """Puts ``replacement`` in the place of ``prefix``.

    :param prefix: what the path begins with, in whole segments; b"" is the root.
    :param replacement: without a slash at its end; b"" strips the prefix.
    """

    __slots__ = ("prefix", "replacement")

    def __init__(self, prefix: bytes, replacement: bytes) -> None:
        self.prefix = prefix
        self.replacement = replacement

    def apply(self, target: bytes, path: bytes) -> bytes:
        """The new target.

        :param target: as the client sent it, with its query.
        :param path: the normal form of the target's path, which has matched below ``prefix``.
        """
        prefix = self.prefix
        if not target.startswith(prefix):  # it was written another way: take the normal form
            target = path + target[len(target.partition(b"?")[0]) :]
        rest = target[len(prefix) :]
        if self.replacement:
            return rest if rest == ASTERISK else self.replacement + rest
        return rest if rest[:1] == b"/" else b"/" + rest


class TemplateRewrite:
    """Replaces the whole path; ``{names}`` stand for the segments that the match found there.

    :param match: the path of the match, such as ``/users/{id}``.
    :param path: the new one, such as ``/v2/people/{id}``; its names are all in ``match``.
    """

    __slots__ = ("_parts",)

    def __init__(self, match: str, path: str) -> None:
        places = {name: place for place, name in enumerate(match[1:].split("/")) if name[:1] == "{"}
        self._parts: tuple[bytes | int, ...] = tuple(
            places[part] if part[:1] == "{" else part.encode() for part in path[1:].split("/")
        )

    def apply(self, target: bytes, path: bytes) -> bytes:
        """See ``PrefixRewrite.apply``."""
        asked, mark, query = target.partition(b"?")
        segments = list(filter(None, asked.split(b"/")))  # as ``normalize`` counts them
        new = b"/".join([segments[one] if isinstance(one, int) else one for one in self._parts])
        return b"/" + new + mark + query


Rewrite = PrefixRewrite | TemplateRewrite


def strip_rewrite(prefix: str) -> Rewrite | None:
    """``strip_prefix`` of a route; "" strips nothing."""
    return PrefixRewrite(prefix.encode(), b"") if prefix else None


def path_rewrite(match: MatchConfig, rewrite: str) -> Rewrite | None:
    """``rewrite`` of a route: in place of the matched prefix, or of the whole matched path."""
    if not rewrite:
        return None
    if match.path:
        return TemplateRewrite(match.path, rewrite)
    return PrefixRewrite(match.path_prefix.rstrip("/").encode(), rewrite.rstrip("/").encode())
