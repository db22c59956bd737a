"""Fills a stream with jobs and their events, as fast as the server takes them."""

from __future__ import annotations

import asyncio
import json

from nats.aio.client import Client

USERS = 1000
PIECE = 2000
"""Jobs between two looks at whether the server keeps up."""


def job_id(number: int) -> str:
    """A version 7 UUID for each number, in their order."""
    return f"0190a5f2-{number >> 16 & 0xFFFF:04x}-7{number >> 4 & 0xFFF:03x}-8000-{number:012x}"


def events_of(jobs: int) -> int:
    """Messages that ``fill`` stores."""
    return jobs + 2 * (jobs // 2)


async def fill(client: Client, port: int, stream: str, jobs: int) -> None:
    """Stores ``jobs`` jobs of ``USERS`` users; every second one ran and has a result.

    Nothing is acknowledged one by one: the count of messages says that all are there.
    """
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b'CONNECT {"verbose":false,"pedantic":false}\r\n')
    before = (await client.jetstream().stream_info(stream)).state.messages
    sent = 0
    for first in range(1, jobs + 1, PIECE):
        last = min(first + PIECE, jobs + 1)
        pieces = [_messages(stream, number) for number in range(first, last)]
        writer.write(b"".join(pieces))
        await writer.drain()
        sent = last - 1
        if sent % (PIECE * 10) == 0:
            await _stored(client, stream, before + events_of(sent))
    await _stored(client, stream, before + events_of(jobs))
    writer.close()


async def _stored(client: Client, stream: str, wanted: int) -> None:
    while (await client.jetstream().stream_info(stream)).state.messages < wanted:  # noqa: ASYNC110 - a server's count
        await asyncio.sleep(0.01)


def _messages(stream: str, number: int) -> bytes:
    name = job_id(number)
    stamp = f"2026-01-31T12:{number // 60000 % 60:02}:{number // 1000 % 60:02}.{number % 1000:03}Z"
    document = {
        "type": ("train", "render", "infer")[number % 3],
        "name": f"resnet run {number}",
        "gpu_type": "a100",
        "gpu_count": 1,
        "priority": number % 10,
        "params": {"epochs": 10, "lr": 0.001, "seed": number},
        "tags": ["bench", f"team-{number % 50}"],
        "job_id": name,
        "user_id": f"user-{number % USERS}",
        "timestamp": stamp,
        "submitted_at": stamp,
    }
    text = _message(f"{stream}.submit.{document['type']}.normal.{name}", document)
    if number % 2:
        return text
    processing = {
        "job_id": name,
        "status": "processing",
        "timestamp": stamp,
        "progress": 40,
        "message": f"step {number % 100} of 100",
        "worker": f"worker-{number % 20}",
    }
    completed = {
        "job_id": name,
        "status": "completed",
        "timestamp": stamp,
        "ended_at": stamp,
        "progress": 100,
        "result": {"model": f"s3://models/{number}", "loss": 0.125},
        "worker": f"worker-{number % 20}",
    }
    subject = f"{stream}.status.{name}"
    return text + _message(subject, processing) + _message(subject, completed)


def _message(subject: str, document: object) -> bytes:
    payload = json.dumps(document, separators=(",", ":")).encode()
    return b"PUB %s %d\r\n%s\r\n" % (subject.encode(), len(payload), payload)
