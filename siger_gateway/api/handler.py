"""What the gateway's own endpoints share: JSON out, problems for everything that goes wrong.

A handler raises ``GatewayError`` and the client gets the problem document (RFC 9457) that belongs
to it. Everything else that may be raised, by Tornado or by mistake, becomes one too: Tornado's
HTML error pages never appear, and the text of an exception goes to the log alone.
"""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Any, Final

import orjson
from tornado.web import HTTPError, RequestHandler

from siger_gateway.errors import PROBLEM_CONTENT_TYPE, GatewayError, proxy_status
from siger_gateway.http.tornado import Caller, TornadoConsumer

_REASONS: Final = {
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
}
"""Tornado raises plain statuses; other ones below 500 are ``bad_request``."""

_log = logging.getLogger(__name__)


class ApiHandler(RequestHandler):
    """Base of the JSON endpoints.

    The wire below has already put a sane ``X-Request-ID`` into the request and adds it to the
    response; here it is only read. On another wire (in tests) it may be missing.
    """

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("Cache-Control", "no-store")

    def compute_etag(self) -> str | None:
        """No hash of every body: who has a validator sets it."""
        return None

    @property
    def request_id(self) -> str:
        return str(self.request.headers.get("X-Request-ID", ""))

    @property
    def caller(self) -> Caller | None:
        """Who sends the request; None: the route does not ask.

        Only the gateway's own wire can tell. On another one this fails, for "does not ask" opens
        everything.
        """
        connection = self.request.connection
        assert isinstance(connection, TornadoConsumer)
        return connection.context.caller

    def send_json(self, document: Any, status: int = 200) -> None:
        """Ends the exchange with a JSON document."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.finish(orjson.dumps(document))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        raised = kwargs["exc_info"][1] if "exc_info" in kwargs else None
        if isinstance(raised, GatewayError):
            error = raised
        elif isinstance(raised, HTTPError) and status_code < 500:
            error = GatewayError(_REASONS.get(status_code, "bad_request"))
        else:
            error = GatewayError("internal")
        if error.status == 405:
            error.headers["Allow"] = ", ".join(self._methods())
        connection = self.request.connection
        if isinstance(connection, TornadoConsumer):  # for the access log and the metrics
            connection.reason = error.reason
        self.set_status(error.status)
        for name, value in error.headers.items():
            self.set_header(name, value)
        self.set_header("Content-Type", PROBLEM_CONTENT_TYPE)
        self.set_header("Proxy-Status", proxy_status(error.reason))
        self.finish(error.problem(instance=self.request.path, request_id=self.request_id))

    def log_exception(
        self,
        typ: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if isinstance(value, GatewayError | HTTPError):
            return  # the access log tells it
        fields = {"method": self.request.method, "request_id": self.request_id}
        exc_info = (typ, value, tb) if typ is not None and value is not None else None
        _log.error("a handler failed", exc_info=exc_info, extra={"fields": fields})

    def _methods(self) -> list[str]:
        """The methods that this handler has, for ``Allow``."""
        return [
            method
            for method in self.SUPPORTED_METHODS
            if getattr(type(self), method.lower()) is not getattr(RequestHandler, method.lower())
        ]


class NotFoundHandler(ApiHandler):
    """Every address that no handler has, and no route."""

    def prepare(self) -> None:
        raise GatewayError("not_found")


def log_request(handler: RequestHandler) -> None:
    """Tornado's ``log_function``: nothing, the gateway has an access log of its own."""
