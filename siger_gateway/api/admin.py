"""What operators see on the admin listener: the effective routes, and the state of endpoints.

Nothing here shows a secret: the configuration itself is not shown, only what it comes to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from siger_gateway.api.handler import ApiHandler

Document = Callable[[], Any]
"""What there is to tell now, as JSON values."""

PAGES: Final = ("/health", "/metrics", "/routes", "/endpoints")


class DocumentHandler(ApiHandler):
    """Sends one document."""

    def initialize(self, document: Document) -> None:
        self._document = document

    def get(self) -> None:
        self.send_json(self._document())

    head = get


def admin_routes(
    routes: Document, endpoints: Document
) -> list[tuple[str, type[ApiHandler], dict[str, Any]]]:
    """For ``tornado.web.Application``; ``/health`` and ``/metrics`` come beside them."""
    return [
        ("/", DocumentHandler, {"document": lambda: {"pages": PAGES}}),
        ("/routes", DocumentHandler, {"document": routes}),
        ("/endpoints", DocumentHandler, {"document": endpoints}),
    ]
