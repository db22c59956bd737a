"""A service that is transcoded by what it tells of itself, as far as it has told it.

One task asks: at the start, again after a while when nothing usable came, and then every
``refresh`` seconds; as soon as the endpoints to choose from are others, too, for they may be
another version. Each time one endpoint is asked everything, so that what is learned belongs
together.

Rules that were learned are in use until better ones are there, and are swapped as a whole: a
request is matched by the old ones or the new ones. A service that is away, that has lost its
reflection, or that tells what makes no sense leaves them as they are. Calls in gRPC never wait for
any of this.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable
from typing import Final

from siger_gateway.config.schema import TranscodeConfig
from siger_gateway.discovery.backoff import backoff
from siger_gateway.errors import GatewayError
from siger_gateway.grpc.path_template import BadRule
from siger_gateway.grpc.reflected_files import Told, ask_for_files
from siger_gateway.grpc.reflection_client import HEADERS, VERSIONS, NoAnswer, ReflectionClient
from siger_gateway.grpc.transcoding import JsonStyle, Match, Transcoder
from siger_gateway.http.message import Request
from siger_gateway.upstream.cluster import Cluster

QUESTION_TIMEOUT: Final = 5.0
"""Seconds for one answer."""
TIMEOUT: Final = 30.0
"""Seconds for all answers: a server that sends a file at a time is asked for hundreds."""
PACE: Final = 1.0
"""Seconds at least until a service that has answered is asked again, whatever its endpoints do."""
JITTER: Final = 0.1
"""Share of a pause that is left off at random, so that gateways do not ask together."""
MAX_SHOWN: Final = 300
"""Characters of an error in the log: some of it may be the service's own words."""

log = logging.getLogger(__name__)


class Reflected:
    """The ``Transcoder`` of a service that describes itself.

    :param cluster: where its endpoints are now.
    :param before: what an earlier configuration had learned of the same service: used until it has
        answered again.
    """

    def __init__(
        self,
        name: str,
        config: TranscodeConfig,
        cluster: Callable[[], Cluster],
        before: Reflected | None = None,
    ) -> None:
        self.config = config
        self._name = name
        self._cluster = cluster
        self._told: Told | None = None
        self._transcoder: Transcoder | None = None
        self._failures = 0  # in a row
        self._said = ""  # the error that the log has
        self._seen: tuple[Cluster, int] | None = None  # the endpoints when it was asked last
        self._again = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        if before is not None and before._told is not None:
            with contextlib.suppress(BadRule):  # it has been asked for other services
                self._transcoder = self._build(before._told)
                self._told = before._told

    def __repr__(self) -> str:
        failing = f" failures={self._failures}" if self._failures else ""
        return f"<Reflected {self._name} rules={self.rules}{failing}>"

    @property
    def rules(self) -> int:
        """How many are in use; 0: none has been learned yet."""
        return 0 if self._transcoder is None else self._transcoder.rules

    def match(self, method: bytes, path: bytes, query: bytes) -> Match | None:
        """See ``Transcoder.match``.

        :raises GatewayError: ``descriptors_awaited`` too.
        """
        return self._known().match(method, path, query)

    def methods(self, path: bytes) -> list[str]:
        """See ``Transcoder.methods``; errors as ``match``."""
        return self._known().methods(path)

    def _known(self) -> Transcoder:
        if self._transcoder is None:
            raise GatewayError("descriptors_awaited")
        return self._transcoder

    def start(self) -> None:
        """Asks in the background from now on."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"reflection of {self._name}")

    async def close(self) -> None:
        """Asks no more; what was learned stays."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def ask_again(self) -> None:
        """Soon, whatever the interval says."""
        self._again.set()

    def look(self) -> None:
        """Asks again if the endpoints to choose from have changed since the last time."""
        cluster = self._cluster()
        if self._seen != (cluster, cluster.changes):
            self._again.set()

    async def _run(self) -> None:
        while True:
            self._again.clear()
            cluster = self._cluster()
            self._seen = cluster, cluster.changes
            try:
                await self._learn(cluster)
            except (NoAnswer, BadRule) as error:
                self._fail(error)
            except Exception as error:  # noqa: BLE001 - this task must outlive whatever it is
                self._fail(error)
            else:
                self._succeed()
            await self._pause()

    async def _pause(self) -> None:
        if self._failures:
            seconds = backoff(self._failures)
        else:
            await asyncio.sleep(PACE)
            seconds = self.config.refresh * (1 - JITTER * random.random()) - PACE
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._again.wait()

    async def _learn(self, cluster: Cluster) -> None:
        """:raises NoAnswer, BadRule: see ``ask_for_files``."""
        endpoint = cluster.pick(Request(b"POST", VERSIONS[0], HEADERS, True), "", ())
        if endpoint is None:
            raise NoAnswer("it has no endpoints")
        client = ReflectionClient(cluster, QUESTION_TIMEOUT, endpoint)
        try:
            async with asyncio.timeout(TIMEOUT):
                told = await ask_for_files(client, self.config.services)
        except TimeoutError:
            raise NoAnswer(f"it has not told everything in {TIMEOUT:g} seconds") from None
        except NoAnswer as error:
            raise NoAnswer(f"{endpoint.address}: {error}") from None
        if told == self._told:
            return
        # Thousands of rules take seconds, in which the loop has other things to do.
        transcoder = await asyncio.to_thread(self._build, told)
        self._transcoder, self._told = transcoder, told
        fields = {
            "service": self._name,
            "endpoint": endpoint.address,
            "services": list(told.services[:20]),
            "rules": transcoder.rules,
            "files": told.files,
            "bytes": len(told.descriptors),
        }
        if told.undescribed:
            fields["undescribed"] = list(told.undescribed[:20])
        log.info("descriptors learned", extra={"fields": fields})

    def _build(self, told: Told) -> Transcoder:
        """:raises BadRule: see ``Transcoder``."""
        config = self.config
        style = JsonStyle(config.names, config.unset, config.enums)
        services = config.services or told.services
        return Transcoder(told.descriptors, services, style, config.ignored_parameters)

    def _fail(self, error: Exception) -> None:
        self._failures += 1
        said = (str(error) or type(error).__name__)[:MAX_SHOWN]
        if said == self._said:
            return
        self._said = said
        fields = {"service": self._name, "error": said, "rules_in_use": self.rules}
        unforeseen = not isinstance(error, NoAnswer | BadRule)
        log.warning("descriptors not learned", extra={"fields": fields}, exc_info=unforeseen)

    def _succeed(self) -> None:
        if self._failures:
            self._failures, self._said = 0, ""
            log.info("descriptors are told again", extra={"fields": {"service": self._name}})
