"""The campaigns of ``make campaign``: the acceptance figures of issue 3 in full, in minutes.

Each prints what it measured, and each has a small version in ``tests/integration`` that
``make test`` runs. ``make test`` leaves them out unless they are named.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

Tell = Callable[[str], None]


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Tell:
    """``tell(text)`` prints although the test passes."""

    def say(text: str) -> None:
        with capsys.disabled():
            print(f"\n{request.node.name}: {text}", flush=True)

    return say
