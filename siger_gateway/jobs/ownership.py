"""Whose jobs somebody may see and cancel. Pure.

A job belongs to the user who stands in its submit message as ``user_id``. With authentication on,
users see and cancel their own jobs, and admins all of them; with it off nobody is known, and
everybody sees everything. Where authentication is optional, those who are not known share the jobs
of ``ANONYMOUS``. A job whose message names no user, as other publishers may leave it, belongs to
nobody: only who sees everything sees it.

Somebody else's job is answered as one that does not exist. Who may not see a job is not told that
it is there: not by another answer, and not by the time that the answer takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from siger_gateway.errors import GatewayError
from siger_gateway.jobs.job import ANONYMOUS
from siger_gateway.jobs.status import JobState

ADMIN: Final = "admin"
"""The role that sees and cancels everybody's jobs."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks something of the jobs.

    :param user_id: what the jobs and the cancel requests of this one are signed with.
    :param sees: whose jobs this one may see and cancel; None: everybody's.
    """

    user_id: str
    sees: str | None

    def may_see(self, job: JobState) -> bool:
        return self.sees is None or job.user_id == self.sees


UNRESTRICTED: Final = Actor(ANONYMOUS, None)
"""Everybody, where authentication is off."""


def actor(user: str, roles: frozenset[str]) -> Actor:
    """Who asks, where authentication is on.

    :param user: "": somebody without credentials, where they are optional.
    :raises GatewayError: ``forbidden`` for a user who is really called ``ANONYMOUS``: the name
        stands for those who are not known, in the stream and for everybody who reads it, so that
        either would get at the jobs of the other.
    """
    if not user:
        return Actor(ANONYMOUS, ANONYMOUS)
    if user == ANONYMOUS:
        raise GatewayError(
            "forbidden", f'The name "{ANONYMOUS}" stands for everybody without one: use another.'
        )
    return Actor(user, None if ADMIN in roles else user)
