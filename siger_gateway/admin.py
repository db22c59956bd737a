"""The listener for operators: a second one, so that nothing of it is ever on the public port.

It is on the loopback interface unless the configuration says otherwise, and then it asks who is
there (``config/check_policies.py`` insists). It is no part of the gateway's work: when its port is
taken, as by a second gateway on the same machine, that is a warning.
"""

from __future__ import annotations

import logging
from typing import Any

from tornado.web import Application

from siger_gateway.api.handler import NotFoundHandler, log_request
from siger_gateway.config.check_policies import is_loopback
from siger_gateway.config.schema import Config
from siger_gateway.http.connection import ServerLimits
from siger_gateway.listener.listener import Listener
from siger_gateway.proxy.account import Accounts
from siger_gateway.proxy.compile import Compiler
from siger_gateway.proxy.dispatch import Dispatcher
from siger_gateway.proxy.route import Route
from siger_gateway.routing.effective import admin_route
from siger_gateway.routing.table import RouteTable
from siger_gateway.tls.certificates import Certificates

log = logging.getLogger(__name__)


class Admin:
    """The admin listener of one gateway, on ``config.admin.port``; "" is nowhere.

    :param handlers: what it serves.
    :param certificates: with which it speaks TLS to other machines; None: the gateway has none.
    """

    def __init__(
        self,
        config: Config,
        handlers: list[Any],
        accounts: Accounts,
        limits: ServerLimits,
        certificates: Certificates | None,
    ) -> None:
        self._address = config.admin.port
        self._application = Application(
            handlers, default_handler_class=NotFoundHandler, log_function=log_request
        )
        self._dispatcher = Dispatcher(RouteTable(()), accounts, None)
        host = split_listen_address(self._address)[0] if self._address else ""
        tls = None if is_loopback(host) else certificates
        self._listener = Listener(self._dispatcher, limits, tls)

    async def start(self) -> None:
        """Listens, if it can."""
        if not self._address:
            return
        host, port = split_listen_address(self._address)
        try:
            await self._listener.start(host, port)
        except OSError as error:
            fields = {"port": self._address, "error": error.strerror or str(error)}
            log.warning("no admin listener", extra={"fields": fields})
        else:
            log.info("admin listener", extra={"fields": {"port": self._listener.port}})

    def follow(self, config: Config, compiler: Compiler) -> None:
        """Takes over who may come, from a new configuration."""
        route = admin_route(config)
        local: Route = compiler.local(route, self._application)
        self._dispatcher.table = RouteTable([(route.match, local)])

    def close(self) -> None:
        self._listener.close()


def split_listen_address(address: str) -> tuple[str, int]:
    """``[::1]:8080`` -> ``("::1", 8080)``; ``:8080`` and ``8080`` -> ``("", 8080)``."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
