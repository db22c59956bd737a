"""Questions to a service about itself, by ``grpc.reflection.v1`` or, where it has none, v1alpha."""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.message import DecodeError

from siger_gateway.errors import GatewayError
from siger_gateway.grpc.framing import BadFrame, Messages, frame
from siger_gateway.grpc.protos.grpc_reflection.v1 import reflection_pb2
from siger_gateway.grpc.status import Code, outcome
from siger_gateway.http.headers import Headers
from siger_gateway.upstream.cluster import Cluster
from siger_gateway.upstream.fetch import Fetched, fetch

TIMEOUT: Final = 2.0
"""Seconds for one call: a tool has a person in front of it."""
MAX_ANSWER: Final = 4 * 1024 * 1024
"""Bytes: what gRPC's own clients accept."""

VERSIONS: Final = (
    b"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    b"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
)
_HEADERS: Final[Headers] = [
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
    (b"user-agent", b"siger-reflection"),
]

Message = Any


class Unanswered(Exception):
    """The service has not answered, or not so that it could be understood; the text says why."""


async def ask(cluster: Cluster, *questions: bytes) -> list[Message]:
    """One answer for each of the questions, all from the same endpoint.

    :param questions: ``ServerReflectionRequest``, serialized; a few KiB in all.
    :raises Unanswered: see there. An ``error_response`` is an answer.
    """
    content = b"".join(map(frame, questions))
    for path in VERSIONS:
        try:
            fetched = await fetch(cluster, path, _HEADERS, TIMEOUT, MAX_ANSWER, content)
        except GatewayError as error:  # it is away: its other version would be too
            raise Unanswered(error.reason) from None
        code = outcome(fetched.status, fetched.headers, fetched.trailers)
        if code == Code.OK:
            answers = _read(fetched)
            if len(answers) != len(questions):
                raise Unanswered(f"{len(answers)} answers to {len(questions)} questions")
            return answers
        if code != Code.UNIMPLEMENTED:
            raise Unanswered(Code(code).name)
    raise Unanswered("it has no grpc.reflection")


def _read(fetched: Fetched) -> list[Message]:
    try:
        messages = Messages(fetched.fields.get(b"grpc-encoding", b""), MAX_ANSWER)
        found = messages.feed(fetched.body)
        return [reflection_pb2.ServerReflectionResponse.FromString(one) for one in found]
    except (BadFrame, DecodeError) as error:
        raise Unanswered(f"no answer of grpc.reflection: {error}") from None
