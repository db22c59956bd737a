"""Raw ``js.publish`` of nats-py, N at a time, in one process: what a submission cannot beat.

``python -m benchmarks.jobs.raw ADDRESS STREAM CONCURRENCY SECONDS``; prints ``RESULT {...}``. Each
message has its own subject and the size of a job document, and no headers.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
from time import perf_counter, process_time

import nats
import uvloop
from nats.js.api import StreamConfig

DOCUMENT = (
    '{"type":"train","name":"resnet run %d","gpu_type":"a100","gpu_count":1,"priority":10,'
    '"params":{"epochs":10,"lr":0.001,"seed":%d},"tags":["bench","team-7"],"job_id":"%s",'
    '"user_id":"anonymous","timestamp":"2026-01-31T12:00:00.000Z",'
    '"submitted_at":"2026-01-31T12:00:00.000Z"}'
)


async def main(address: str, stream: str, concurrency: int, seconds: float) -> None:
    client = await nats.connect(address)
    js = client.jetstream()
    await js.add_stream(StreamConfig(name=stream, subjects=[f"{stream}.>"]))
    base = str(uuid.UUID(bytes=os.urandom(16)))[:23]
    count = 0
    ends = perf_counter() + seconds

    async def publish() -> None:
        nonlocal count
        while perf_counter() < ends:
            count += 1
            job_id = f"{base}-{count:012x}"
            payload = (DOCUMENT % (count, count, job_id)).encode()
            await js.publish(f"{stream}.submit.train.normal.{job_id}", payload)

    began, cpu = perf_counter(), process_time()
    await asyncio.gather(*(publish() for _ in range(concurrency)))
    elapsed, cpu = perf_counter() - began, process_time() - cpu
    print("RESULT", json.dumps({"requests": count, "duration": elapsed, "cpu": cpu}))
    await client.close()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
