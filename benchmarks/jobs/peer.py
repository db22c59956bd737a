"""What one would write without Siger: FastAPI and nats-py, run by uvicorn on uvloop and httptools.

``uvicorn benchmarks.jobs.peer:app`` with ``BENCH_NATS`` and ``BENCH_STREAM`` in the environment. It
checks the same fields as Siger, stores the job in the stream and answers 202 after its
confirmation. It has no idempotency, no ownership, no metrics and no request ids.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import nats
from fastapi import FastAPI, Response
from nats.js.api import StreamConfig
from pydantic import BaseModel, ConfigDict, Field

STREAM = os.environ.get("BENCH_STREAM", "peer")

state: dict[str, Any] = {}


class Job(BaseModel):
    model_config = ConfigDict(extra="forbid")
    type: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    name: Annotated[str, Field(min_length=1, max_length=256)]
    description: Annotated[str, Field(max_length=4096)] = ""
    gpu_type: Annotated[str, Field(max_length=128)] = ""
    gpu_count: Annotated[int, Field(ge=1)] = 1
    priority: Annotated[int, Field(ge=0, le=100)] = 0
    params: dict[str, Any] = {}
    tags: Annotated[list[str], Field(max_length=32)] = []


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    client = await nats.connect(os.environ["BENCH_NATS"])
    state["js"] = js = client.jetstream()
    await js.add_stream(StreamConfig(name=STREAM, subjects=[f"{STREAM}.>"]))
    yield
    await client.close()


app = FastAPI(lifespan=lifespan, openapi_url=None)


@app.post("/api/v1/jobs", status_code=202)
async def submit(job: Job, response: Response) -> dict[str, str]:
    job_id = str(uuid.uuid4())
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    document = job.model_copy(update={}).model_dump_json()
    payload = f'{document[:-1]},"job_id":"{job_id}","timestamp":"{now}"}}'.encode()
    await state["js"].publish(
        f"{STREAM}.submit.{job.type}.normal.{job_id}", payload, headers={"Nats-Msg-Id": job_id}
    )
    response.headers["Location"] = f"/api/v1/jobs/{job_id}"
    return {"job_id": job_id, "status": "queued", "timestamp": now, "message": "Job submitted"}
