"""Forward authentication: a service decides who a request comes from, as nginx' ``auth_request``.

The service is shown some fields of the request, such as ``Cookie``, and told in ``X-Forwarded-*``
what was asked for. With 2xx it lets the request pass and may name the user; 401 and 403 refuse it.
Whatever else it says, or if it says nothing, nobody is let in.

An answer holds for some seconds for the same question: everything that the service was told is part
of it, so it may decide by the path or the address. Equal questions at the same time are asked once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from hashlib import sha256
from time import monotonic
from typing import Final, Protocol

from siger_gateway.errors import GatewayError
from siger_gateway.filters.claims import is_name
from siger_gateway.filters.filter import Call
from siger_gateway.filters.identity import Identity
from siger_gateway.http1.headers import Headers, find_all

CAPACITY: Final = 10_000
"""Answers that are remembered, of which each takes about 0.5 KiB."""
WARN_EVERY: Final = 10.0
"""Seconds between warnings about the service."""
NOBODY: Final = "authorized"
"""The user where the service lets pass and names nobody."""

log = logging.getLogger(__name__)


class Answer(Protocol):
    """What the service says."""

    @property
    def status(self) -> int: ...

    @property
    def fields(self) -> dict[bytes, bytes]: ...


Ask = Callable[[Headers], Awaitable[Answer]]
"""Asks the service; raises ``GatewayError`` when there is no answer."""

Verdict = Identity | GatewayError


class ForwardAuth:
    """One such service.

    :param fields: names of request fields that it is shown.
    :param user_field: of its answer; b"": it names nobody.
    :param roles_field: of its answer, with commas; b"": it names none.
    :param cache: seconds for which an answer holds; 0: each request is asked for.
    :param capacity: answers that are remembered.
    """

    def __init__(
        self,
        ask: Ask,
        fields: tuple[bytes, ...],
        user_field: bytes,
        roles_field: bytes,
        cache: float,
        capacity: int = CAPACITY,
    ) -> None:
        self._ask = ask
        self._fields = fields
        self._user_field = user_field
        self._roles_field = roles_field
        self._cache = cache
        self._half = max(capacity // 2, 1)
        # Two halves, as in ``tokens``: what is asked for again moves from the old to the young one.
        self._young: dict[bytes, tuple[float, Verdict]] = {}
        self._old: dict[bytes, tuple[float, Verdict]] = {}
        self._asking: dict[bytes, asyncio.Task[Verdict]] = {}
        self._warned = -WARN_EVERY

    def __repr__(self) -> str:
        return f"<ForwardAuth {len(self._young) + len(self._old)} answers>"

    def identify(self, call: Call, now: float) -> Verdict | Awaitable[Verdict]:
        """Who the request comes from, or why it is refused.

        :param now: seconds on a clock that never goes back.
        """
        question = self._question(call)
        if not self._cache:
            return self._put(question)
        key = digest(question)
        found = self._young.get(key)
        if found is None:
            found = self._old.get(key)
            if found is not None:
                self._remember(key, found)
        if found is not None and now < found[0]:
            return _fresh(found[1])
        return self._together(key, question)

    def _question(self, call: Call) -> Headers:
        request = call.request
        headers: Headers = [
            (b"x-forwarded-method", request.method),
            (b"x-forwarded-proto", call.scheme),
            (b"x-forwarded-host", request.fields.get(b"host", b"")),
            (b"x-forwarded-uri", request.target),
            (b"x-forwarded-for", call.client.encode()),
        ]
        for name in self._fields:
            if name in request.fields:
                headers += [(name, value) for value in find_all(request.headers, name)]
        return headers

    async def _together(self, key: bytes, question: Headers) -> Verdict:
        """The answer to a question that others may be asking too. Who leaves does not take it away
        from them."""
        task = self._asking.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._put_and_remember(key, question))
            self._asking[key] = task
        return _fresh(await asyncio.shield(task))

    async def _put_and_remember(self, key: bytes, question: Headers) -> Verdict:
        try:
            verdict = await self._put(question)
        finally:
            del self._asking[key]
        if not isinstance(verdict, GatewayError) or verdict.reason != "auth_unavailable":
            self._remember(key, (monotonic() + self._cache, verdict))
        return verdict

    async def _put(self, question: Headers) -> Verdict:
        try:
            answer = await self._ask(question)
        except GatewayError as error:
            return self._unavailable(error.reason)
        return self._judge(answer)

    def _judge(self, answer: Answer) -> Verdict:
        status = answer.status
        if 200 <= status <= 299:
            return self._identity(answer)
        if status == 401:
            challenge = answer.fields.get(b"www-authenticate", b"").decode("latin-1")
            shown = challenge.isascii() and challenge.isprintable() and bool(challenge)
            headers = {"WWW-Authenticate": challenge} if shown else {}
            return GatewayError("unauthenticated", headers=headers)
        if status == 403:
            return GatewayError("auth_refused")
        return self._unavailable(f"status {status}")

    def _identity(self, answer: Answer) -> Verdict:
        user = NOBODY
        if self._user_field:
            user = answer.fields.get(self._user_field, b"").decode("latin-1")
            if not is_name(user):
                return self._unavailable("it lets pass, and names no user that can be used")
        listed = answer.fields.get(self._roles_field, b"").decode("latin-1").split(",")
        roles = frozenset(role for role in (one.strip(" ") for one in listed) if is_name(role))
        return Identity(user, "forward", roles)

    def _unavailable(self, why: str) -> GatewayError:
        now = monotonic()
        if now - self._warned >= WARN_EVERY:
            self._warned = now
            said = "the authorization service does not answer as it should"
            log.warning(said, extra={"fields": {"why": why}})
        return GatewayError("auth_unavailable", headers={"Retry-After": "1"})

    def _remember(self, key: bytes, found: tuple[float, Verdict]) -> None:
        if len(self._young) >= self._half:
            self._old, self._young = self._young, {}
        self._young[key] = found


def digest(question: Headers) -> bytes:
    """What two questions have in common only if they are the same: each part with its length before
    it, so that no value can pass for the end of one and the beginning of another."""
    hashed = sha256()
    for name, value in question:
        hashed.update(b"%d:%b%d:%b" % (len(name), name, len(value), value))
    return hashed.digest()


def _fresh(verdict: Verdict) -> Verdict:
    """An error of its own for each request: whoever answers may add header fields to it."""
    if isinstance(verdict, GatewayError):
        return GatewayError(verdict.reason, headers=dict(verdict.headers))
    return verdict
