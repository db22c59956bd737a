"""``grpc.reflection`` of a service, asked by the gateway: one question a call.

By v1 or, where that is not known, v1alpha: they differ in the name of the package only, so their
messages are the same bytes.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.message import DecodeError

from siger_gateway.errors import GatewayError
from siger_gateway.grpc.framing import PREFIX, BadFrame, Messages, frame
from siger_gateway.grpc.protos.grpc_reflection.v1 import reflection_pb2
from siger_gateway.grpc.status import Code, outcome
from siger_gateway.http.headers import Headers
from siger_gateway.upstream.cluster import Cluster, Endpoint
from siger_gateway.upstream.fetch import Fetched, fetch

MAX_ANSWER: Final = 4 * 1024 * 1024
"""Bytes: what gRPC's own clients accept."""

VERSIONS: Final = (
    b"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    b"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
)
HEADERS: Final[Headers] = [
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
    (b"user-agent", b"siger-reflection"),
]

Message = Any


class NoAnswer(Exception):
    """A service has not answered, or not by what reflection is; the text, for logs, says how."""


class ReflectionClient:
    """:param timeout: seconds for one question in one version.
    :param endpoint: the only one that is asked; None: the cluster picks one for each question.
    """

    def __init__(self, cluster: Cluster, timeout: float, endpoint: Endpoint | None = None) -> None:
        self._cluster = cluster
        self._timeout = timeout
        self._endpoint = endpoint
        self._versions: tuple[bytes, ...] = VERSIONS  # those that may be known to the service

    async def ask(self, question: bytes) -> Message:
        """The ``ServerReflectionResponse``, which may be an error of reflection's own.

        :param question: a serialized ``ServerReflectionRequest``.
        :raises NoAnswer: see there.
        """
        while self._versions:
            try:
                fetched = await fetch(
                    self._cluster,
                    self._versions[0],
                    HEADERS,
                    self._timeout,
                    MAX_ANSWER + PREFIX,
                    frame(question),
                    self._endpoint,
                )
            except GatewayError as error:
                raise NoAnswer(str(error)) from None
            code = outcome(fetched.status, fetched.headers, fetched.trailers)
            if code is Code.OK:
                return _read(fetched)
            if code is not Code.UNIMPLEMENTED:
                raise NoAnswer(f"it answers {code.name}")
            self._versions = self._versions[1:]
        raise NoAnswer("it has no reflection: UNIMPLEMENTED in v1 and v1alpha")


def _read(fetched: Fetched) -> Message:
    try:
        messages = Messages(fetched.fields.get(b"grpc-encoding", b""), MAX_ANSWER)
        found = messages.feed(fetched.body)
        messages.end()
    except BadFrame as fault:
        raise NoAnswer(fault.detail) from None
    if len(found) != 1:
        raise NoAnswer(f"{len(found)} answers to one question")
    try:
        return reflection_pb2.ServerReflectionResponse.FromString(found[0])
    except DecodeError:
        raise NoAnswer("its answer is no message of reflection") from None
