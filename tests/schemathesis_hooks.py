"""What schemathesis, a client without sense, has to be told: not how to find fewer faults.

Loaded by its command line (``SCHEMATHESIS_HOOKS``). A long poll of 59 s and the refusal of an
``Idempotency-Key`` that was used before with another body are both right, and neither can be said
in a schema.
"""

from __future__ import annotations

import re
import uuid
from typing import Any

import schemathesis

from siger_gateway.jobs.query import MAX_KEY, VISIBLE, WAIT


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    wait = (case.query or {}).get("wait")
    if isinstance(wait, str) and re.fullmatch(WAIT, wait):
        case.query["wait"] = "10ms"
    headers = case.headers or {}
    if re.search("wait", str(headers.get("Prefer", "")), re.I):
        headers["Prefer"] = "wait=0"
    key = headers.get("Idempotency-Key")
    if isinstance(key, str) and len(key) <= MAX_KEY and re.fullmatch(VISIBLE, key):
        headers["Idempotency-Key"] = f"{key[:200]}{uuid.uuid4().hex}"
