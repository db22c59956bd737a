"""What a token says, once its signature has been checked: who it is for, until when, and where.

The issuer is trusted, and its mistakes are not: a claim of the wrong type, an ``exp`` in
milliseconds or a name that breaks out of a header field refuses the token; nothing is repaired.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from math import inf
from typing import Any, Final

from siger_gateway.errors import GatewayError
from siger_gateway.filters.identity import Identity

NAME_LENGTH: Final = 256
"""Characters of a user, a role or a scope: an e-mail address has at most 254 (RFC 5321)."""

LATEST: Final = 253_402_300_800
"""Unix time, in seconds, of the year 10000. Times after it are milliseconds by mistake, and would
never be reached."""

ACCESS_TYPES: Final = frozenset({"access", "access_token", "bearer"})
"""What ``type``, ``token_type`` and ``typ`` (Keycloak: ``Bearer``) call a token that gives access,
in lower case. Refresh and ID tokens come from the same issuer under the same key."""

_NAME: Final = re.compile("[!-~](?:[ -~]*[!-~])?")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # RFC 7519 section 4: of two members with one name, we might believe another than the service.
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member stands there twice")
    return members


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


_decoder: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse)


def read_object(document: bytes) -> dict[str, Any]:
    """A JSON object, in UTF-8, without a member that stands there twice.

    :raises ValueError: if it is anything else.
    """
    try:
        members = _decoder.decode(document.decode())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(members, dict):
        raise ValueError("it is not an object")
    return members


def identify(
    claims: dict[str, Any], issuer: str, audience: str, leeway: float, now: float
) -> Identity:
    """The user that the claims speak of. The parameters are those of ``TokenVerifier``.

    :raises GatewayError: with the reason for which they give no access.
    """
    expires = _time(claims, "exp") + leeway
    if now >= expires:
        raise GatewayError("token_expired")
    for claim in ("nbf", "iat"):
        if claim in claims and _time(claims, claim) > now + leeway:
            raise GatewayError("token_not_yet_valid")
    if issuer and claims.get("iss") != issuer:
        raise GatewayError("token_issuer")
    if audience and not _is_meant_for(claims.get("aud"), audience):
        raise GatewayError("token_audience")
    for claim in ("type", "token_type", "typ"):
        if claim in claims:
            kind = claims[claim]
            if not isinstance(kind, str) or kind.lower() not in ACCESS_TYPES:
                raise GatewayError("token_type")
    return Identity(_user(claims), "jwt", _roles(claims), _scopes(claims), expires)


def is_name(value: object) -> bool:
    """Whether this can be a user, a role or a scope: safe as a field value, and not endless."""
    return isinstance(value, str) and len(value) <= NAME_LENGTH and bool(_NAME.fullmatch(value))


def _wrong(claim: str) -> GatewayError:
    return GatewayError("token_claims", f'The claim "{claim}" is missing or not valid.')


def _time(claims: dict[str, Any], claim: str) -> float:
    """A NumericDate (RFC 7519 section 2), in seconds."""
    value = claims.get(claim)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -inf < value < LATEST:
        raise _wrong(claim)
    return max(value, 0.0)  # an integer may be too small for a float


def _is_meant_for(claim: object, audience: str) -> bool:
    if isinstance(claim, list):
        return audience in claim and all(isinstance(one, str) for one in claim)
    return claim == audience


def _user(claims: dict[str, Any]) -> str:
    # A user_id that cannot be used must not fall back to the subject, which may be a name that
    # users choose themselves: one could choose the id of another.
    claim = "user_id" if "user_id" in claims else "sub"
    value = claims.get(claim)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not is_name(value):
        raise _wrong(claim)
    return value


def _roles(claims: dict[str, Any]) -> frozenset[str]:
    """``role``, one, and ``roles``, a list; null and an empty ``role`` are none."""
    roles = []
    role = claims.get("role")
    if role is not None and role != "":
        roles.append(role)
    listed = claims.get("roles")
    if listed is not None and not isinstance(listed, list):
        raise _wrong("roles")
    roles += listed or ()
    return _names("roles", roles)


def _scopes(claims: dict[str, Any]) -> frozenset[str]:
    """``scope`` (RFC 8693 section 4.2), ``scp`` (Azure, Okta) and ``scopes``: a list, or one string
    with spaces in between."""
    scopes: set[str] = set()
    for claim in ("scope", "scp", "scopes"):
        value = claims.get(claim)
        if isinstance(value, str):
            value = [word for word in value.split(" ") if word]
        if value is not None and not isinstance(value, list):
            raise _wrong(claim)
        scopes |= _names(claim, value or ())
    return frozenset(scopes)


def _names(claim: str, values: Iterable[object]) -> frozenset[str]:
    names: set[str] = set()
    for value in values:
        if not isinstance(value, str) or not is_name(value):
            raise _wrong(claim)
        names.add(value)
    return frozenset(names)
