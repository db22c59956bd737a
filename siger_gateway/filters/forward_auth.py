"""Forward authentication: a service decides who a request comes from, as with nginx' auth_request,
Traefik's ForwardAuth and Envoy's ext_authz.

The service is shown some fields of the request, such as ``Cookie``, and told in ``X-Forwarded-*``
what was asked for. With 2xx it lets the request pass and may name the user; 401 and 403 refuse it.
Whatever else it says, or if it says nothing, nobody is let in, and that is not remembered.

An answer holds for some seconds for the same question: everything that the service was told is part
of it, so it may decide by the path or the address. Equal questions at the same time are asked once.
What is asked belongs to those who wait for it: when the last of them has left it is given up, so
there are never more questions under way than requests, however fast clients come and go.

Memory is bounded whatever strangers send: ``capacity`` for the answers, in two halves as in
``tokens``, and the requests that are there for the questions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from math import inf
from typing import Final, Protocol

from siger_gateway.errors import GatewayError
from siger_gateway.filters.claims import is_name
from siger_gateway.filters.filter import Call
from siger_gateway.filters.headers import spellings
from siger_gateway.filters.identity import Identity
from siger_gateway.http.headers import HOP_BY_HOP, NEVER_DROPPED, Headers, find_all

CAPACITY: Final = 10_000
"""Answers that are remembered: 9 MB where each names a user and two roles (tracemalloc)."""
ROLES: Final = 8
"""Roles that count as one answer more, as names do in ``tokens``."""
MOST_CHALLENGE: Final = 1024
"""Bytes of a ``WWW-Authenticate`` that is passed on. Services like to repeat in it what they were
sent, and it is remembered."""
QUIET: Final = 10.0
"""Seconds in which one warning about the service is enough: who asks may be able to make it fail,
and his requests must not fill the log."""
NOBODY: Final = "authorized"
"""The user where the service lets pass and names nobody."""

NEVER_SHOWN: Final = (
    HOP_BY_HOP
    | NEVER_DROPPED
    | {b"expect", b"trailer"}
    | spellings(b"x-forwarded-method", b"x-forwarded-proto", b"x-forwarded-host")
    | spellings(b"x-forwarded-uri", b"x-forwarded-for")
)
"""Fields that the client cannot say to the service: they frame the question, which has no body
though the request may have one, or stand in it already, where its own would pass for ours."""

log = logging.getLogger(__name__)


class Answer(Protocol):
    """What the service says."""

    @property
    def status(self) -> int: ...

    @property
    def fields(self) -> dict[bytes, bytes]:
        """By names in lower case."""


Ask = Callable[[Headers], Awaitable[Answer]]
"""Asks the service with these fields; raises ``GatewayError`` when there is no answer."""

Verdict = Identity | GatewayError


class ForwardAuth:
    """One such service.

    :param fields: names of request fields that it is shown, in lower case.
    :param user_field: of its answer; b"": it names nobody.
    :param roles_field: of its answer, with commas; b"": it names none.
    :param cache: seconds for which an answer holds; 0: each request is asked for.
    :param capacity: answers that are remembered; fewer if they have many roles, see ``ROLES``.
    :raises ValueError: if one of ``fields`` is in ``NEVER_SHOWN``.
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
        if bad := NEVER_SHOWN.intersection(fields):
            raise ValueError(f"{b', '.join(sorted(bad)).decode()} cannot be shown to a service")
        self._ask = ask
        self._fields = fields
        self._user_field = user_field
        self._roles_field = roles_field
        self._cache = cache
        self._known = _Known(capacity)
        self._asking: dict[bytes, _Asking] = {}
        self._outage = _Outage()

    def __repr__(self) -> str:
        return f"<ForwardAuth remembered={len(self._known)} asking={len(self._asking)}>"

    def identify(self, call: Call, now: float) -> Verdict | Awaitable[Verdict]:
        """Who the request comes from, or why it is refused. Nothing has to be awaited for an answer
        that is remembered: it takes 3 us (``python -m benchmarks.filters``).

        :param now: seconds on a clock that never goes back.
        """
        question = self._question(call)
        if not self._cache:
            return self._put(question, now)
        key = digest(question)
        verdict = self._known.find(key, now)
        return self._together(key, question, now) if verdict is None else _fresh(verdict)

    def _question(self, call: Call) -> Headers:
        request = call.request
        fields = request.fields
        question: Headers = [
            (b"x-forwarded-method", request.method),
            (b"x-forwarded-proto", call.scheme),
            (b"x-forwarded-host", fields.get(b"host", b"")),
            (b"x-forwarded-uri", request.target),
            (b"x-forwarded-for", call.client.encode()),
        ]
        once = len(fields) == len(request.headers)
        for name in self._fields:
            if name not in fields:
                continue
            if once:
                question.append((name, fields[name]))
            else:
                question += [(name, value) for value in find_all(request.headers, name)]
        return question

    async def _together(self, key: bytes, question: Headers, now: float) -> Verdict:
        """The answer to a question that others may be waiting for too. Who leaves does not take it
        away from them; who leaves last does."""
        asking = self._asking.get(key)
        if asking is None:
            put = self._put_and_remember(key, question, now)
            asking = self._asking[key] = _Asking(asyncio.get_running_loop().create_task(put))
        asking.waiting += 1
        try:
            return _fresh(await asyncio.shield(asking.task))
        finally:
            asking.waiting -= 1
            if not asking.waiting:
                del self._asking[key]
                asking.task.cancel()  # no effect if it is done

    async def _put_and_remember(self, key: bytes, question: Headers, now: float) -> Verdict:
        verdict = await self._put(question, now)
        if isinstance(verdict, Identity) or verdict.reason != "auth_unavailable":
            self._known.add(key, _Entry(now + self._cache, verdict))
        return verdict

    async def _put(self, question: Headers, now: float) -> Verdict:
        try:
            answer = await self._ask(question)
        except GatewayError as error:
            verdict: Verdict | str = error.reason
        else:
            verdict = self._judge(answer)
        if isinstance(verdict, str):
            self._outage.begin(verdict, now)
            return GatewayError("auth_unavailable", headers={"Retry-After": "1"})
        self._outage.end()
        return verdict

    def _judge(self, answer: Answer) -> Verdict | str:
        """What the answer means; text: why it means nothing."""
        status = answer.status
        if 200 <= status <= 299:
            return self._identity(answer)
        if status == 401:
            challenge = answer.fields.get(b"www-authenticate", b"").decode("latin-1")
            shown = 0 < len(challenge) <= MOST_CHALLENGE
            shown = shown and challenge.isascii() and challenge.isprintable()
            headers = {"WWW-Authenticate": challenge} if shown else {}
            return GatewayError("unauthenticated", headers=headers)
        if status == 403:
            return GatewayError("auth_refused")
        return f"status {status}"

    def _identity(self, answer: Answer) -> Identity | str:
        user = NOBODY
        if self._user_field:
            user = _text(answer, self._user_field)
            if not is_name(user):
                return "it lets pass, and names no user that can be used"
        named = [role.strip(" \t") for role in _text(answer, self._roles_field).split(",")]
        # A role that cannot be used gives nothing, which is why it refuses nobody either.
        return Identity(user, "forward", frozenset(role for role in named if is_name(role)))


def _text(answer: Answer, name: bytes) -> str:
    """A field's value without the whitespace around it (RFC 9110 section 5.5); "" for none."""
    return answer.fields.get(name, b"").decode("latin-1").strip(" \t")


def digest(question: Headers) -> bytes:
    """What two questions have in common only if they are the same: each part stands behind its
    length, so that no value can pass for the end of one and the beginning of another."""
    parts = [b"%d:%d:%b%b" % (len(name), len(value), name, value) for name, value in question]
    return sha256(b"".join(parts)).digest()


def _fresh(verdict: Verdict) -> Verdict:
    """An error of its own for each request: whoever answers may add header fields to it."""
    if isinstance(verdict, GatewayError):
        return GatewayError(verdict.reason, headers=dict(verdict.headers))
    return verdict


class _Asking:
    """A question under way. ``waiting``: requests that want its answer."""

    __slots__ = ("task", "waiting")

    def __init__(self, task: asyncio.Task[Verdict]) -> None:
        self.task = task
        self.waiting = 0


@dataclass(frozen=True, slots=True)
class _Entry:
    """What has been answered. ``until``: seconds, by the clock of ``identify``."""

    until: float
    verdict: Verdict


class _Known:
    """The answers that hold. When the young half is full it becomes the old one, which is dropped;
    what is asked for in between moves back, so that users who come again stay."""

    __slots__ = ("_half", "_old", "_weight", "_young")

    def __init__(self, capacity: int) -> None:
        self._half = max(capacity // 2, 1)
        self._weight = 0  # of the young half
        self._young: dict[bytes, _Entry] = {}
        self._old: dict[bytes, _Entry] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def find(self, key: bytes, now: float) -> Verdict | None:
        entry = self._young.get(key)
        if entry is not None:
            return entry.verdict if now < entry.until else None
        entry = self._old.get(key)
        if entry is None or now >= entry.until:
            return None
        self.add(key, entry)
        return entry.verdict

    def add(self, key: bytes, entry: _Entry) -> None:
        if self._weight >= self._half:
            self._old, self._young, self._weight = self._young, {}, 0
        verdict = entry.verdict
        roles = len(verdict.roles) if isinstance(verdict, Identity) else 0
        self._weight += 1 + roles // ROLES
        self._young[key] = entry


class _Outage:
    """Says that the service does not answer as it should, once for each way in which it does not,
    and once that it does again; and all of that not more often than every ``QUIET`` seconds."""

    __slots__ = ("_quiet_until", "_said")

    def __init__(self) -> None:
        self._said: set[str] = set()  # of this outage
        self._quiet_until = -inf

    def begin(self, why: str, now: float) -> None:
        """:param why: nothing of the request or the answer, but its status."""
        if why in self._said or now < self._quiet_until:
            return
        self._said.add(why)
        self._quiet_until = now + QUIET
        said = "the authorization service does not answer as it should"
        log.warning(said, extra={"fields": {"why": why}})

    def end(self) -> None:
        if self._said:
            self._said.clear()
            log.info("the authorization service answers as it should again")
