"""Who a request comes from: the filter that finds out, and the means by which clients show it.

A token comes in ``Authorization: Bearer``, an API key in a field of its own; who has neither is
taken for whom the client certificate names, and where there is none, a service may be asked. What
is shown counts, and is never tried in another way when it is wrong: a bad token is refused on a
route that would let pass who has none. Two credentials at once are refused too, for the service
might believe the other one.

Field values are compared as they came. A field that comes twice is no credential at all: which of
the two a service would read is not known here.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Awaitable
from typing import Any, Final

from siger_gateway.config.policies import AuthConfig
from siger_gateway.errors import GatewayError
from siger_gateway.filters.claims import is_name
from siger_gateway.filters.filter import Call, Filter, Verdict
from siger_gateway.filters.forward_auth import ForwardAuth
from siger_gateway.filters.identity import Identity
from siger_gateway.filters.key_set import KeyMissing, KeySet
from siger_gateway.http.headers import find_all
from siger_gateway.http.message import Request

Found = Identity | GatewayError | None
"""Who it is, why that cannot be believed, or that nothing has been shown."""

AUTHORIZATION: Final = b"authorization"

LONGEST_SEEN: Final = 512
MOST_SEEN: Final = 1024
"""Values of ``Authorization`` that are remembered, and bytes of the longest: half a MiB."""

INVALID_REQUEST: Final = "invalid_request"
INVALID_TOKEN: Final = "invalid_token"
"""Error codes of RFC 6750 section 3.1."""


class Authenticator:
    """The means that the configuration has, for all routes.

    :param keys: where the public keys of tokens come from; None: there are none.
    :param forward: asks a service; None: nobody is asked.
    :raises ConfigError: if the file of API keys cannot be used.
    :raises ValueError: if tokens cannot be verified as configured.
    """

    def __init__(
        self, config: AuthConfig, keys: KeySet | None, forward: ForwardAuth | None
    ) -> None:
        self._key_set = keys
        self._tokens = None
        self._api_keys = None
        if config.jwt.enabled:
            # Here, for it takes 15 ms and 5 MiB, with which nobody should start who has no use.
            from siger_gateway.filters.tokens import TokenVerifier

            jwt = config.jwt
            source = keys if keys is not None else jwt.secret
            self._tokens = TokenVerifier(source, jwt.accepted, jwt.issuer, jwt.audience, jwt.leeway)
        if config.api_keys:
            from siger_gateway.filters.api_keys import ApiKeys

            self._api_keys = ApiKeys(config.api_keys)
        self._key_field = config.api_key_header.encode()
        self._mtls = config.mtls
        self._seen: dict[bytes, bytes] = {}  # Authorization -> the token in it
        self._forward = forward
        ways = ['Bearer realm="siger"'] if self._tokens is not None else []
        if self._api_keys is not None or not ways:
            # No scheme is registered for API keys; a 401 has to name one (RFC 9110 15.5.2).
            ways.append(f'ApiKey realm="siger", header="{config.api_key_header}"')
        self._challenges = ways

    def start(self) -> None:
        """Begins to fetch keys, in the background."""
        if self._key_set is not None:
            self._key_set.start()

    async def close(self) -> None:
        if self._key_set is not None:
            await self._key_set.close()

    def look(self, now: float) -> None:
        """Takes over files that have changed; ``now`` is the loop's time."""
        if self._api_keys is not None:
            self._api_keys.look(now)

    def identify(self, call: Call) -> Found | Awaitable[Found]:
        """Who the request comes from. An awaitable only where somebody else has to be asked."""
        request = call.request
        fields = request.fields
        try:
            token = key = None
            if self._tokens is not None and AUTHORIZATION in fields:
                token = self._token(_single(request, AUTHORIZATION))
            if self._api_keys is not None and self._key_field in fields:
                key = _single(request, self._key_field)
                if token is not None:
                    raise GatewayError("bad_credentials", "Send a token or an API key, not both.")
            if token is not None:
                return self._by_token(token)
            if key is not None and self._api_keys is not None:
                return self._api_keys.identify(key, time.time())
        except GatewayError as error:
            return error
        if self._mtls:
            found = by_certificate(call.stream.client_certificate(), time.time())
            if found is not None:
                return found
        return self._forward.identify(call, time.monotonic()) if self._forward is not None else None

    def _token(self, value: bytes) -> bytes | None:
        """As ``_bearer``. A value that comes again is mostly the same object (``http1.plain``),
        which knows its hash; taken out of it anew, the token would not."""
        token = self._seen.get(value)
        if token is None:
            token = _bearer(value)
            if token is not None and len(value) <= LONGEST_SEEN:
                if len(self._seen) >= MOST_SEEN:
                    self._seen.clear()
                self._seen[value] = token
        return token

    def _by_token(self, token: bytes) -> Found | Awaitable[Found]:
        assert self._tokens is not None
        try:
            return self._tokens.verify(token, time.time())
        except KeyMissing as missing:
            return self._by_token_later(token, missing)

    async def _by_token_later(self, token: bytes, missing: KeyMissing) -> Found:
        assert self._tokens is not None
        assert self._key_set is not None
        await self._key_set.refreshed(missing.kid)
        try:
            return self._tokens.verify(token, time.time())
        except GatewayError as error:
            return error

    def challenge(self, error: GatewayError) -> GatewayError:
        """``error`` with what the client could do better (RFC 9110 section 11.6.1), if it can."""
        if error.status == 401 and "WWW-Authenticate" not in error.headers:
            ways = self._challenges
            if error.reason.startswith("token_"):
                ways = [f'Bearer realm="siger", error="{INVALID_TOKEN}"']
            elif error.reason == "bad_credentials":
                ways = [f'{self._challenges[0]}, error="{INVALID_REQUEST}"']
            error.headers["WWW-Authenticate"] = ", ".join(ways)
        return error


def authenticate(
    authenticator: Authenticator, mode: str, roles: tuple[str, ...], scopes: tuple[str, ...]
) -> Filter:
    """Lets pass who may.

    :param mode: ``required``, or ``optional``: who shows nothing passes as nobody.
    :param roles: one of them is needed; empty: none is.
    :param scopes: all of them are needed.
    """
    needs_somebody = mode == "required"
    one_of, all_of = frozenset(roles), frozenset(scopes)
    identify = authenticator.identify

    def judge(call: Call, found: Found) -> Verdict:
        if isinstance(found, Identity):
            call.identity = found
            if (one_of and one_of.isdisjoint(found.roles)) or not all_of <= found.scopes:
                return GatewayError("forbidden")
            call.to_service += found.headers
            return None
        if found is None:
            found = GatewayError("unauthenticated")
        if found.reason == "unauthenticated" and not needs_somebody:
            return None
        return authenticator.challenge(found)

    async def judge_later(call: Call, found: Awaitable[Found]) -> Verdict:
        return judge(call, await found)

    def check(call: Call) -> Verdict | Awaitable[Verdict]:
        found = identify(call)
        if found is None or isinstance(found, Identity | GatewayError):
            return judge(call, found)
        return judge_later(call, found)

    return check


def _single(request: Request, name: bytes) -> bytes:
    """The value of a field that is there.

    :raises GatewayError: if it is there more than once.
    """
    headers = request.headers
    if len(headers) != len(request.fields) and len(find_all(headers, name)) > 1:
        raise GatewayError("bad_credentials", "A field with credentials came more than once.")
    return request.fields[name]


def _bearer(value: bytes) -> bytes | None:
    """The token in an ``Authorization``; None: it has another scheme, and is the service's.

    :raises GatewayError: if there is no token in it.
    """
    scheme, token = value[:6], value[6:]
    if scheme.lower() != b"bearer" or token[:1] not in (b"", b" ", b"\t"):
        return None
    if b"\t" in token:  # some services take it for a space (RFC 9110 section 5.6.3)
        raise GatewayError("bad_credentials", "There is a tab in the credentials.")
    token = token.strip(b" ")
    if not token:
        raise GatewayError("bad_credentials", "There is no token behind Bearer.")
    return token


def by_certificate(certificate: dict[str, Any] | None, now: float) -> Found:
    """The user that a verified client certificate names, as Kubernetes reads them: the common name
    is the user, each organization is a role.

    :param certificate: as ``ssl.SSLSocket.getpeercert`` tells it.
    :param now: Unix time, in seconds. A connection may last longer than its certificate.
    """
    if not certificate:
        return None
    names = [pair for relative in certificate.get("subject", ()) for pair in relative]
    users = [value for name, value in names if name == "commonName"]
    if len(users) != 1 or not is_name(users[0]):
        return None
    expires = float(ssl.cert_time_to_seconds(certificate["notAfter"]))
    if now >= expires:
        return GatewayError("certificate_expired")
    roles = {value for name, value in names if name == "organizationName" and is_name(value)}
    return Identity(users[0], "mtls", frozenset(roles), expires=expires)
