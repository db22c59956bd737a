"""``/openapi.json``: the gateway's own endpoints in OpenAPI 3.1.

The schema of the job body is written by msgspec from ``JobRequest``, the one that bodies are
checked against; states, bounds and reasons come from their tables too.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import msgspec
import orjson

from siger_gateway import __version__
from siger_gateway.api.handler import ApiHandler
from siger_gateway.errors import PROBLEM_CONTENT_TYPE, REASONS
from siger_gateway.jobs import query
from siger_gateway.jobs.job import JobRequest
from siger_gateway.jobs.ownership import ADMIN
from siger_gateway.jobs.status import CANCELLING, MAX_USER, QUEUED, STATUSES

_TEXT: Final = {"type": "string"}
_TIME: Final = {"type": "string", "format": "date-time"}
_ID: Final = {"type": "string", "format": "uuid"}


class OpenApiHandler(ApiHandler):
    """``GET /openapi.json``."""

    def get(self) -> None:
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "max-age=3600")
        self.finish(_rendered())


@cache
def _rendered() -> bytes:
    return orjson.dumps(document())


def document() -> dict[str, Any]:
    """The whole description."""
    request = msgspec.json.schema(JobRequest)["$defs"]["JobRequest"]
    request["description"] = "A job to be submitted."
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Siger",
            "version": __version__,
            "description": "The endpoints of the gateway itself; proxied services are not in it.",
        },
        "paths": {
            "/health": {"get": _probe("Whether the gateway can do its work.")},
            "/health/live": {"get": _probe("Whether the process answers.")},
            "/health/ready": {
                "get": _probe("Whether it takes traffic: not at start, not in drain.")
            },
            "/metrics": {"get": _metrics()},
            "/openapi.json": {"get": _openapi()},
            "/api/v1/jobs": {"post": _guarded(_submit()), "get": _guarded(_list())},
            "/api/v1/jobs/{job_id}": {
                "parameters": [_job_id()],
                "get": _guarded(_get()),
                "delete": _guarded(_cancel()),
            },
            "/api/v1/jobs/{job_id}/events": {"parameters": [_job_id()], "get": _guarded(_events())},
        },
        "components": {
            "schemas": {
                "JobRequest": request,
                "Accepted": _accepted(),
                "Job": _job(),
                "JobList": _object(
                    {
                        "jobs": {"type": "array", "items": _ref("Job")},
                        "next_cursor": {"type": ["string", "null"]},
                    }
                ),
                "Event": _event(),
                "Problem": _problem_schema(),
                "Health": _object(
                    {
                        "status": {"enum": ["pass", "warn", "fail"]},
                        "version": _TEXT,
                        "checks": {"type": "object"},
                    },
                    required=["status"],
                ),
            },
            "headers": {
                "X-Request-ID": {"description": "Names this exchange in logs.", "schema": _TEXT}
            },
            "securitySchemes": {
                "bearerAuth": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "apiKeyAuth": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    """An object schema; without ``required`` every property is."""
    needed = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": needed}


def _accepted() -> dict[str, Any]:
    statuses = {"enum": [QUEUED, CANCELLING]}
    return _object({"job_id": _ID, "status": statuses, "timestamp": _TIME, "message": _TEXT})


_OUTCOME: Final[dict[str, Any]] = {
    "progress": {"type": "number", "minimum": 0, "maximum": 100},
    "worker": _TEXT,
    "started_at": _TIME,
    "ended_at": _TIME,
    "result": {"description": "Whatever the worker reported."},
    "error": _TEXT,
}


def _event() -> dict[str, Any]:
    always = {
        "job_id": _ID,
        "status": {"enum": list(STATUSES)},
        "timestamp": _TIME,
        "message": _TEXT,
    }
    return _object({**always, **_OUTCOME}, required=list(always))


def _job() -> dict[str, Any]:
    always = {
        "job_id": _ID,
        "status": {"enum": list(STATUSES)},
        "timestamp": {**_TIME, "description": "Of the last event."},
        "message": _TEXT,
        "type": _TEXT,
        "name": _TEXT,
        "priority": {"type": "integer", "minimum": 0, "maximum": 100},
        "tags": {"type": "array", "items": _TEXT},
        "submitted_at": _TIME,
    }
    owner = {"user_id": {**_TEXT, "description": "Whose job it is, where that is known."}}
    return _object({**always, **owner, **_OUTCOME}, required=list(always))


def _problem_schema() -> dict[str, Any]:
    field_error = _object({"field": _TEXT, "detail": _TEXT})
    always = {
        "type": {"type": "string", "format": "uri"},
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": _TEXT,
        "instance": _TEXT,
        "reason": {"enum": sorted(REASONS)},
        "request_id": _TEXT,
    }
    optional = {
        "errors": {"type": "array", "items": field_error},
        "job_id": {**_ID, "description": "With queue_ambiguous: the job that may be stored."},
    }
    return _object({**always, **optional}, required=list(always))


def _response(
    description: str,
    schema: dict[str, Any] | None = None,
    media_type: str = "application/json",
    headers: dict[str, str] | None = None,
) -> dict[str, Any]:
    """A response; ``headers``: name -> description, beside the request id."""
    fields: dict[str, Any] = {"X-Request-ID": {"$ref": "#/components/headers/X-Request-ID"}}
    for name, meaning in (headers or {}).items():
        fields[name] = {"description": meaning, "schema": _TEXT}
    response: dict[str, Any] = {"description": description, "headers": fields}
    if schema is not None:
        response["content"] = {media_type: {"schema": schema}}
    return response


def _problem(reasons: str) -> dict[str, Any]:
    return _response(reasons, _ref("Problem"), PROBLEM_CONTENT_TYPE)


def _unavailable() -> dict[str, Any]:
    return _retryable(
        "The queue cannot do this now: queue_…, ledger_not_ready, jobs_disabled; or it cannot be "
        "found out who asks: auth_unavailable."
    )


def _retryable(reasons: str) -> dict[str, Any]:
    response = _problem(reasons)
    response["headers"]["Retry-After"] = {"description": "Seconds.", "schema": {"type": "integer"}}
    return response


def _guarded(operation: dict[str, Any]) -> dict[str, Any]:
    """An operation on jobs, with what depends on who asks: whether one has to say so, and how often
    one may ask, is the operator's decision."""
    unauthenticated = _problem("unauthenticated, bad_credentials, token_…, api_key_…")
    unauthenticated["headers"]["WWW-Authenticate"] = {
        "description": "How to say who one is (RFC 9110 section 11.6.1).",
        "schema": _TEXT,
    }
    refusals = {
        "401": unauthenticated,
        "403": _problem("forbidden, address_denied, origin_denied, auth_refused"),
        "414": _problem("uri_too_long"),
        "429": _retryable("rate_limited, too_many_concurrent"),
        "431": _problem("headers_too_large"),
    }
    responses = dict(sorted({**operation["responses"], **refusals}.items()))
    security: list[dict[str, list[str]]] = [{}, {"bearerAuth": []}, {"apiKeyAuth": []}]
    return {**operation, "security": security, "responses": responses}


def _parameter(
    name: str, place: str, description: str, schema: dict[str, Any], *, required: bool = False
) -> dict[str, Any]:
    return {
        "name": name,
        "in": place,
        "description": description,
        "required": required,
        "schema": schema,
    }


def _job_id() -> dict[str, Any]:
    return _parameter("job_id", "path", "The job.", _ID, required=True)


def _probe(summary: str) -> dict[str, Any]:
    media_type = "application/health+json"
    return {
        "summary": summary,
        "responses": {
            "200": _response("pass or warn", _ref("Health"), media_type),
            "503": _response("fail", _ref("Health"), media_type),
        },
    }


def _metrics() -> dict[str, Any]:
    text = _response("Prometheus text, or OpenMetrics by Accept", _TEXT, "text/plain")
    text["content"]["application/openmetrics-text"] = {"schema": _TEXT}
    return {"summary": "The figures of this gateway.", "responses": {"200": text}}


def _openapi() -> dict[str, Any]:
    described = _response("OpenAPI 3.1", {"type": "object"})
    return {"summary": "This document.", "responses": {"200": described}}


def _submit() -> dict[str, Any]:
    return {
        "summary": "Submit a job.",
        "description": "202 means that the job is stored.",
        "parameters": [
            _parameter(
                "Idempotency-Key",
                "header",
                "The same key and body get the first answer again; the same key and another body "
                "are 422.",
                {
                    "type": "string",
                    "pattern": f"^{query.VISIBLE}$",
                    "maxLength": query.MAX_KEY,
                },
            )
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _ref("JobRequest")}},
        },
        "responses": {
            "202": _response("Stored.", _ref("Accepted"), headers={"Location": "The job."}),
            "400": _problem("malformed_json, bad_request"),
            "413": _problem("body_too_large"),
            "415": _problem("unsupported_media_type"),
            "422": _problem("invalid_fields, idempotency_mismatch"),
            "503": _unavailable(),
        },
    }


def _list() -> dict[str, Any]:
    def several(
        name: str, description: str, items: dict[str, Any], **bounds: int
    ) -> dict[str, Any]:
        array = {"type": "array", "items": items, **bounds}
        return _parameter(name, "query", description, array)

    limit = {
        "type": "integer",
        "minimum": 1,
        "maximum": query.MAX_LIMIT,
        "default": query.DEFAULT_LIMIT,
    }
    user = {"type": "string", "pattern": f"^{query.VISIBLE}$", "maxLength": MAX_USER}
    return {
        "summary": "List jobs, newest first.",
        "description": "The jobs in the gateway's memory (`jobs.ledger_jobs`); older ones are "
        "still found by id. With authentication on: one's own, and everybody's for the role "
        f"`{ADMIN}`. A job of somebody else is answered as one that does not exist.",
        "parameters": [
            several("status", "One of these.", {"enum": list(STATUSES)}),
            several(
                "type", "One of these.", {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"}
            ),
            several(
                "tag",
                "All of these.",
                {"type": "string", "pattern": f"^{query.TAG}$"},
                maxItems=query.MAX_TAGS,
            ),
            several("user", "Of one of these, as far as one may see them.", user),
            _parameter("limit", "query", "Jobs on a page.", limit),
            _parameter(
                "cursor",
                "query",
                "`next_cursor` of the page before.",
                {"type": "string", "pattern": r"^[1-9][0-9]{0,17}$"},
            ),
        ],
        "responses": {
            "200": _response(
                "A page.", _ref("JobList"), headers={"Link": 'rel="next": the next page'}
            ),
            "400": _problem("bad_request"),
            "422": _problem("invalid_fields"),
            "503": _unavailable(),
        },
    }


def _get() -> dict[str, Any]:
    return {
        "summary": "Look at a job.",
        "parameters": [
            _parameter(
                "wait",
                "query",
                f"Answer when the job changes, or after this time (`30s`, at most "
                f"{query.MAX_WAIT:.0f}s).",
                {"type": "string", "pattern": f"^(?:{query.WAIT})$"},
            ),
            _parameter("Prefer", "header", "`wait=30`: as `wait`, in seconds.", _TEXT),
            _parameter("If-None-Match", "header", "An ETag that is known already.", _TEXT),
        ],
        "responses": {
            "200": _response(
                "The job.",
                _ref("Job"),
                headers={"ETag": "Sequence of its last event.", "Preference-Applied": "wait"},
            ),
            "304": _response("Nothing new."),
            "400": _problem("bad_request"),
            "404": _problem("not_found"),
            "422": _problem("invalid_fields"),
            "503": _unavailable(),
        },
    }


def _cancel() -> dict[str, Any]:
    return {
        "summary": "Ask for a job to be cancelled.",
        "description": "It is `cancelled` once its worker says so; asking again does nothing more.",
        "responses": {
            "202": _response("Asked.", _ref("Accepted")),
            "400": _problem("bad_request"),
            "404": _problem("not_found"),
            "409": _problem("conflict: the job has ended"),
            "503": _unavailable(),
        },
    }


def _events() -> dict[str, Any]:
    data = {**_TEXT, "contentMediaType": "application/json", "contentSchema": _ref("Event")}
    described = _response(
        "Server-sent events, each of this form; `id` is the stream sequence. Ends with the job.",
        _object({"id": _TEXT, "event": {"const": "message"}, "data": data}),
        "text/event-stream",
    )
    return {
        "summary": "Follow a job.",
        "parameters": [
            _parameter(
                "Last-Event-ID",
                "header",
                "Only what came after this event.",
                {"type": "string", "pattern": f"^(?:{query.SEQUENCE})?$"},
            )
        ],
        "responses": {
            "200": described,
            "204": _response("The client has seen the end of the job."),
            "400": _problem("bad_request"),
            "404": _problem("not_found"),
            "422": _problem("invalid_fields"),
            "503": _unavailable(),
        },
    }
