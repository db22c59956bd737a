"""Modules that libraries import for what the gateway does not use, and that do not run for it.

py-consul has a client made of ``requests``, nats-py a transport made of ``aiohttp``: together a
third of the time and a tenth of the memory with which a gateway would start. A deferred module is
found and put into place, and runs when something of it is used for the first time. Submodules of a
deferred package can be imported without that.

Not ``importlib.util.LazyLoader``: its modules run as soon as somebody else imports them.
"""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any


class Deferred(ModuleType):
    """A module that has not run yet."""

    def __getattr__(self, name: str) -> Any:
        """For what is not there yet: everything, until the module has run."""
        self.__class__ = ModuleType  # type: ignore[assignment]  # as importlib does
        assert self.__spec__ is not None
        assert self.__spec__.loader is not None
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)


def defer(*names: str) -> None:
    """Has these modules run on their first use; call it before anything imports them.

    Those that have run already, or are not installed, are left as they are.
    """
    for name in names:
        spec = None if name in sys.modules else importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            module = sys.modules[name] = importlib.util.module_from_spec(spec)
            module.__class__ = Deferred
