"""Which services of gRPC the gateway answers itself; each is loaded when it is called first."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from siger_gateway.api.serving import Serving
from siger_gateway.grpc.service import Handlers, Services
from siger_gateway.jobs.ledger import Ledger
from siger_gateway.jobs.queue import JobQueue
from siger_gateway.upstream.cluster import Cluster


def own_services(
    queue: JobQueue,
    ledger: Ledger,
    serving: Serving,
    clusters: Callable[[], Iterable[Cluster]],
) -> Services:
    """The names are those of the routes, ``routing.effective.CALLS``.

    :param clusters: the services behind the gateway that may be asked what they offer.
    """

    def jobs() -> Handlers:
        from siger_gateway.api.grpc.jobs import jobs_handlers

        return jobs_handlers(queue, ledger)

    def health() -> Handlers:
        from siger_gateway.api.grpc.health import health_handlers

        return health_handlers(serving)

    def reflection() -> Handlers:
        from siger_gateway.api.grpc.reflection import reflection_handlers

        return reflection_handlers(serving, clusters)

    # Both versions of reflection have the same messages, but for the name of their package.
    return Services(
        {
            "siger.jobs.v1.Jobs": jobs,
            "grpc.health.v1.Health": health,
            "grpc.reflection.v1.ServerReflection": reflection,
            "grpc.reflection.v1alpha.ServerReflection": reflection,
        }
    )
