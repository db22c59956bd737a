"""Says once that Consul fails, and once that it answers again, however often it is asked."""

from __future__ import annotations

import logging

from consul.exceptions import ConsulException

SHOWN: int = 200
"""Characters of an error that are logged: py-consul's may hold a whole answer."""

log = logging.getLogger(__name__)


class Outage:
    """What fails now. ``subjects``: the queries of which the last one failed."""

    def __init__(self) -> None:
        self.subjects: set[str] = set()
        self._said: set[type] = set()

    def begin(self, subject: str, error: Exception) -> None:
        """A query failed. Logged when it is the first, or fails in a way that the others do not."""
        self.subjects.add(subject)
        if type(error) in self._said:
            return
        self._said.add(type(error))
        fields = {"query": subject, "error": (str(error) or type(error).__name__)[:SHOWN]}
        unforeseen = not isinstance(error, OSError | ConsulException)
        log.warning(
            "consul does not answer as it should; the last tables stay",
            extra={"fields": fields},
            exc_info=unforeseen,
        )

    def end(self, subject: str) -> None:
        """The query succeeded, or will not be made any more."""
        if subject in self.subjects:
            self.subjects.remove(subject)
            if not self.subjects:
                self._said.clear()
                log.info("consul answers again")
