"""The composition root: builds every part, owns it, and stops it in the right order.

    start    discovery and the job queue begin in the background; the listener opens; Consul is
             told where this gateway is
    reload   a new table from a new configuration, swapped by assignment; what did not change
             keeps its connections and counters
    drain    Consul is told first, so that nobody new is sent here; then what is in flight ends
    close    everything that still holds a task, a socket or a file

Parts know nothing of each other: discovery publishes tables and clusters take them, the route
table names clusters and the exchange finds them there. They are joined here and nowhere else.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from siger_gateway.admin import Admin, split_listen_address
from siger_gateway.api.admin import admin_routes
from siger_gateway.api.direct import DirectJobs
from siger_gateway.api.grpc.services import own_services
from siger_gateway.api.handler import NotFoundHandler, log_request
from siger_gateway.api.health import Facts, HealthHandler
from siger_gateway.api.jobs import jobs_routes
from siger_gateway.api.metrics import MetricsHandler
from siger_gateway.api.serving import Serving
from siger_gateway.config.schema import Config, EndpointSpec, TlsConfig
from siger_gateway.discovery.consul import ConsulWatcher
from siger_gateway.discovery.register import Probe, Registrar
from siger_gateway.discovery.snapshot import SNAPSHOT_FILE, Snapshot
from siger_gateway.grpc.descriptions import Descriptions
from siger_gateway.guard import Guard
from siger_gateway.http.connection import ServerLimits
from siger_gateway.http.timeouts import Ticker
from siger_gateway.http.tornado import Endpoints
from siger_gateway.jobs.ledger import Ledger
from siger_gateway.jobs.queue import JobQueue
from siger_gateway.listener.listener import Listener
from siger_gateway.proxy.account import Accounts
from siger_gateway.proxy.compile import Compiler
from siger_gateway.proxy.dispatch import Dispatcher
from siger_gateway.proxy.forwarded import TrustedProxies
from siger_gateway.routing.describe import describe
from siger_gateway.routing.effective import (
    EffectiveRoute,
    effective,
    largest_body,
    policy_of,
    targets_of,
)
from siger_gateway.routing.table import RouteTable
from siger_gateway.routing.tags import Catalog
from siger_gateway.telemetry.access_log import AccessLog
from siger_gateway.telemetry.metrics import Metrics, Samples
from siger_gateway.tls.certificates import Certificates, ServerFiles
from siger_gateway.tls.contexts import FileProblem, KeyPair
from siger_gateway.upstream.cluster import Cluster
from siger_gateway.upstream.clusters import Clusters

GC_THRESHOLDS: Final = (20_000, 50, 50)
"""Of the garbage collector. What a request allocates is freed when it ends, but a burst of requests
looks like a leak to Python's own 700: it would look through all of them again and again."""
DRAIN_IDLE_GRACE: Final = 1.0
"""Seconds that an idle keep-alive connection is kept in a drain: a request that left the client
before it learned of the drain arrives within a round trip, and is answered."""
NEEDS_RESTART: Final = (
    "port",
    "grpc",
    "reuse_port",
    "consul_address",
    "consul_token",
    "nats_address",
    "data_dir",
    "consul_routes",
    "limits",
    "register",
)
"""Keys that a reload does not act on; it says so."""

log = logging.getLogger(__name__)


class Gateway:
    """One gateway on the running event loop.

    :param config: a checked configuration.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self.metrics = metrics = Metrics()
        self._ticker = Ticker()
        self._clusters = Clusters(metrics)
        self._catalog: Catalog = {}
        self._tag_problems: frozenset[tuple[str, str]] = frozenset()
        self._effective: tuple[EffectiveRoute, ...] = ()
        self._descriptions = Descriptions(config.services, self._clusters.__getitem__, metrics)
        self._access_log = _open_access_log(config)
        self._guard = Guard(config, self._clusters.__getitem__)
        self._queue = JobQueue(config.jobs, config.nats_address, metrics)
        self._ledger = Ledger(self._queue, metrics)
        self._health = Serving(self._facts, self._clusters.available)
        self._compiler = Compiler(
            metrics,
            self._ticker,
            self._clusters.__getitem__,
            self._own_endpoints(),
            own_services(self._queue, self._ledger, self._health, self._reflecting),
            self._guard.limits,
        )
        self._accounts = Accounts(metrics, self._access_log)
        self._dispatcher = Dispatcher(RouteTable(()), self._accounts, None)
        self._certificates = self._load_certificates()
        self._listener = Listener(self._dispatcher, server_limits(config), self._certificates)
        self._grpc_listener = Listener(
            self._dispatcher, server_limits(config), self._certificates, http2_only=True
        )
        self._grpc_listener.closed = self._listener.closed  # one metric for both
        handlers = [*self._handlers(), *admin_routes(self._routes, self._clusters.describe)]
        self._admin = Admin(
            config, handlers, self._accounts, server_limits(config), self._certificates
        )
        self._watcher = self._make_watcher() if config.consul_address else None
        self._registrar: Registrar | None = None
        self._serving = False
        self._worst_lag = 0.0
        self._build_table()
        self._ticker.every_tick(self._tick)
        metrics.gauge(
            "siger_loop_lag_seconds",
            "Longest delay of the loop since the last scrape.",
            (),
            self._lag_sample,
        )
        metrics.gauge(
            "siger_downstream_connections",
            "Connections now open.",
            (),
            lambda: [((), len(self._listener.connections) + len(self._grpc_listener.connections))],
        )
        metrics.counter(
            "siger_downstream_connections_closed",
            "Connections that the gateway closed outside of an exchange.",
            "reason",
            self._listener.closed,
        )

    @property
    def port(self) -> int:
        """Where the gateway listens, once started."""
        return self._listener.port

    async def start(self) -> None:
        """Opens the listener; raises ``OSError`` when the port cannot be had."""
        host, port = split_listen_address(self._config.port)
        await self._listener.start(host, port, reuse_port=self._config.reuse_port)
        if self._config.grpc.port:
            host, port = split_listen_address(self._config.grpc.port)
            await self._grpc_listener.start(host, port, reuse_port=self._config.reuse_port)
        self._guard.start()
        self._descriptions.start()
        await self._admin.start()
        if self._config.nats_address:
            self._queue.start()
            self._ledger.start()
        if self._watcher is not None:
            self._watcher.start()
            if self._config.register.name:
                self._registrar = Registrar(
                    self._config.consul_address,
                    self._config.consul_token,
                    self._config.register,
                    self.port,
                    probe=self._probe(),
                )
                self._watcher.exclude(self._registrar.service_id)
                self._registrar.start()
        self._serving = True
        # What exists now lives as long as the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        ports = {"port": self.port}
        if self._config.grpc.port:
            ports["grpc_port"] = self._grpc_listener.port
        log.info("serving", extra={"fields": ports})

    async def jobs_connected(self, timeout: float) -> bool:
        """Waits, ``timeout`` seconds at most, until jobs can be submitted."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._queue.connection.wait()
        return self._queue.connected

    def reload(self, config: Config) -> None:
        """Takes over a new, checked configuration, without closing anything that is in use.

        Raises ``OSError`` when a file cannot be opened or used, ``ConfigError`` when it does not
        hold what it should; then nothing has changed.
        """
        old = self._config
        take_over_guard = self._guard.prepare(config)
        take_over_descriptions = self._descriptions.prepare(config.services)
        moved = config.access_log != old.access_log
        access_log = _open_access_log(config) if moved else self._access_log
        if self._certificates is not None and config.tls.cert:
            try:
                self._certificates.replace(server_files(config.tls))
            except FileProblem as problem:
                if moved and access_log is not None:
                    access_log.close()
                raise OSError(str(problem)) from problem
        # Who may use them is taken over, what they are is not.
        jobs = replace(old.jobs, **policy_of(config.jobs))
        admin = replace(old.admin, **policy_of(config.admin))
        ignored = [key for key in NEEDS_RESTART if getattr(old, key) != getattr(config, key)]
        self._config = replace(config, **{key: getattr(old, key) for key in ignored})
        ignored += ["jobs"] if jobs != config.jobs else []
        ignored += ["admin"] if admin != config.admin else []
        self._config = replace(self._config, jobs=jobs, admin=admin)
        if bool(old.tls.cert) != bool(config.tls.cert):  # other files are taken over, see above
            ignored.append("tls")
            self._config = replace(self._config, tls=old.tls)
        if ignored:
            log.warning("keys need a restart", extra={"fields": {"keys": ignored}})
        if moved:
            replaced, self._access_log = self._access_log, access_log
            self._accounts.access_log = access_log
            if replaced is not None:
                replaced.close()
        elif self._access_log is not None:
            self._access_log.reopen()
        take_over_guard()
        take_over_descriptions()
        for listener in (self._listener, self._grpc_listener):
            listener.take_bodies_up_to(largest_body(self._config))
        self._build_table()
        self._clusters.reload_tls()
        if self._watcher is not None and self._follows_catalog():
            self._watcher.watch_catalog(self._on_catalog)
        if self._registrar is not None:
            self._registrar.ask_by(self._probe())
        log.info("reloaded")

    async def drain(self) -> None:
        """Leaves Consul, answers what is in flight, closes the listener."""
        self._serving = False
        self._listener.draining = self._grpc_listener.draining = True
        self._health.wake()
        if self._registrar is not None:
            await self._registrar.deregister()
        self._ledger.release()
        timeout = self._config.drain_timeout
        await asyncio.gather(
            self._listener.drain(timeout, DRAIN_IDLE_GRACE),
            self._grpc_listener.drain(timeout, DRAIN_IDLE_GRACE),
        )

    async def close(self) -> None:
        """Stops every part; what was in flight is cut off."""
        self._serving = False
        self._listener.close()
        self._grpc_listener.close()
        if self._registrar is not None:
            await self._registrar.close()
        if self._watcher is not None:
            await self._watcher.close()
        self._admin.close()
        await self._guard.close()
        await self._descriptions.close()
        await self._ledger.close()
        await self._queue.close()
        await self._clusters.close()
        self._ticker.close()
        if self._access_log is not None:
            self._access_log.close()

    # Building.

    def _build_table(self) -> None:
        """Compiles routes and clusters from the configuration and what Consul knows."""
        config = self._config
        wanted = effective(config, self._catalog)
        self._clusters.configure(wanted.services)
        self._effective = wanted.routes
        self._compiler.rely_on(self._guard.authenticator, self._guard.credentials)
        self._compiler.transcode_by(self._descriptions.transcoders)
        self._dispatcher.table = self._compiler.table(wanted.routes)
        self._admin.follow(config, self._compiler)
        self._report_tags(wanted.problems)
        trusted = config.trusted_proxies
        self._dispatcher.trusted = TrustedProxies(trusted) if trusted else None
        if self._watcher is not None:
            services = {service.consul for service in wanted.services.values() if service.consul}
            if config.register.name and any(one.config.rate_limit for one in wanted.routes):
                services.add(config.register.name)  # to know how many share the limits
            self._watcher.set_services(services)

    def _report_tags(self, problems: Collection[tuple[str, str]]) -> None:
        """Says once what is wrong with tags in Consul, and again only after it was right."""
        for service, reason in problems:
            if (service, reason) not in self._tag_problems:
                fields = {"service": service, "reason": reason}
                log.warning("tags in Consul are not used", extra={"fields": fields})
        self._tag_problems = frozenset(problems)

    def _own_endpoints(self) -> Endpoints:
        handlers = [*self._handlers(), *jobs_routes(self._queue, self._ledger)]
        direct = DirectJobs(self._queue, self._ledger) if self._queue.enabled else None
        return Endpoints(
            handlers, direct, default_handler_class=NotFoundHandler, log_function=log_request
        )

    def _reflecting(self) -> list[Cluster]:
        """The services whose messages anybody who may call reflection is told of."""
        routed = {name for one in self._effective for name in targets_of(one.config)}
        return [one for one in self._clusters.speaking_http2() if one.name in routed]

    def _handlers(self) -> list[Any]:
        """Those that both listeners have."""
        probes = (("/health", "health"), ("/health/live", "live"), ("/health/ready", "ready"))
        handlers: list[Any] = [
            (path, HealthHandler, {"probe": probe, "facts": self._facts}) for path, probe in probes
        ]
        return [*handlers, ("/metrics", MetricsHandler, {"metrics": self.metrics})]

    def _routes(self) -> list[dict[str, Any]]:
        return [describe(route) for route in self._effective]

    def _probe(self) -> Probe:
        """How Consul can ask whether this gateway is ready."""
        tls = self._config.tls
        if not tls.cert:
            return "http"
        return "tcp" if tls.client_ca and tls.client_auth == "required" else "https"

    def _load_certificates(self) -> Certificates | None:
        if not self._config.tls.cert:
            return None
        source = server_files(self._config.tls)
        try:
            certificates = Certificates(source, self.metrics.tls_handshakes)
        except FileProblem as problem:
            raise OSError(str(problem)) from problem
        self.metrics.gauge(
            "siger_tls_certificate_not_after_seconds",
            "Unix time at which a certificate of the listener ends.",
            ("file",),
            certificates.samples,
        )
        return certificates

    def _make_watcher(self) -> ConsulWatcher:
        config = self._config
        snapshot = Snapshot(Path(config.data_dir) / SNAPSHOT_FILE) if config.data_dir else None
        return ConsulWatcher(
            config.consul_address,
            config.consul_token,
            publish=self._on_endpoints,
            publish_catalog=self._on_catalog if self._follows_catalog() else None,
            snapshot=snapshot,
            metrics=self.metrics,
        )

    def _on_endpoints(self, service: str, endpoints: Sequence[EndpointSpec]) -> None:
        """Discovery has a new table of one service; this gateway itself is in none of them."""
        if service == self._config.register.name:
            self._guard.limits.divide(len(endpoints) + 1)
        self._clusters.publish(service, endpoints)

    def _follows_catalog(self) -> bool:
        """Whether routes depend on which services there are in Consul."""
        return self._config.consul_routes or "*" in self._config.expose_services

    def _on_catalog(self, catalog: Catalog) -> None:
        """The services in Consul, or their tags, are others now."""
        before, self._catalog = self._catalog, catalog
        tags = [{name: one for name, one in known.items() if one} for known in (before, catalog)]
        if tags[0] != tags[1] or "*" in self._config.expose_services:
            self._build_table()

    # Running.

    def _tick(self, now: float) -> None:
        self._worst_lag = max(self._worst_lag, self._ticker.lag)
        self._clusters.tick(now)
        self._guard.look(now)
        self._descriptions.look(now)
        self._health.look(now)
        if self._certificates is not None:
            self._certificates.look(now)
        if self._access_log is not None:
            self._access_log.flush()

    def _lag_sample(self) -> Samples:
        worst, self._worst_lag = self._worst_lag, 0.0
        return [((), worst)]

    def _facts(self) -> Facts:
        return Facts(
            serving=self._serving,
            draining=self._listener.draining,
            services=self._clusters.endpoint_counts(),
            discovery_age=self._watcher.age if self._watcher is not None else None,
            nats=self._queue.connected if self._config.nats_address else None,
            unhealthy=self._clusters.unhealthy(),
        )


def server_limits(config: Config) -> ServerLimits:
    """What the wire lets pass: of bodies, as much as any route does."""
    limits = config.limits
    return ServerLimits(
        limits.header_bytes,
        largest_body(config),
        limits.header_timeout,
        limits.idle_timeout,
        limits.connections,
        limits.header_count,
        limits.body_rate,
    )


def server_files(config: TlsConfig) -> ServerFiles:
    """The files that the listener's ``tls`` section names."""
    first = KeyPair(config.cert, config.key)
    return ServerFiles(
        (first, *(KeyPair(one.cert, one.key) for one in config.certificates)),
        config.min_version,
        config.client_ca,
        config.client_auth,
    )


def _open_access_log(config: Config) -> AccessLog | None:
    if not config.access_log.path:
        return None
    return AccessLog(config.access_log.path, config.access_log.sample)
