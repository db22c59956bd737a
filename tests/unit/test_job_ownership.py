"""Whose jobs somebody may see."""

from __future__ import annotations

import pytest

from siger_gateway.errors import GatewayError
from siger_gateway.jobs.job import ANONYMOUS
from siger_gateway.jobs.ownership import UNRESTRICTED, Actor, actor
from siger_gateway.jobs.status import JobState

USER = frozenset({"user"})
ADMIN = frozenset({"user", "admin"})
OWNERS = ("alice", "bob", "Alice", "alice ", ANONYMOUS, "")
"""Of the jobs that there are; "" is the owner of what other publishers left without one."""


def seen(who: Actor) -> set[str]:
    """The owners whose jobs this one may see."""
    jobs = [JobState(str(seq), seq, 0.0, user_id=owner) for seq, owner in enumerate(OWNERS)]
    return {job.user_id for job in jobs if who.may_see(job)}


@pytest.mark.parametrize(
    ("who", "owners"),
    [
        (UNRESTRICTED, set(OWNERS)),
        (actor("alice", USER), {"alice"}),
        (actor("alice", frozenset()), {"alice"}),
        (actor("carol", USER), set()),
        (actor("carol", ADMIN), set(OWNERS)),
        (actor("carol", frozenset({"Admin", "administrator", "admin "})), set()),
        (actor("admin", USER), set()),
        (actor("", frozenset()), {ANONYMOUS}),
    ],
)
def test_whose_jobs_are_seen(who: Actor, owners: set[str]) -> None:
    assert seen(who) == owners


def test_a_role_without_a_user_counts_for_nothing() -> None:
    assert seen(actor("", ADMIN)) == {ANONYMOUS}


@pytest.mark.parametrize(
    ("who", "name"),
    [
        (UNRESTRICTED, ANONYMOUS),
        (actor("", frozenset()), ANONYMOUS),
        (actor("alice", USER), "alice"),
        (actor("root", ADMIN), "root"),
    ],
)
def test_what_jobs_are_signed_with(who: Actor, name: str) -> None:
    assert who.user_id == name


@pytest.mark.parametrize("roles", [USER, ADMIN])
def test_a_user_with_the_name_of_nobody_is_not_taken_for_nobody(roles: frozenset[str]) -> None:
    with pytest.raises(GatewayError) as refused:
        actor(ANONYMOUS, roles)
    assert refused.value.reason == "forbidden"
