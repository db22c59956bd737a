"""Where the endpoints of services come from.

``consul``         the watcher: notices changes and publishes the tables of the watched services
``watched``        the table of one service, and which answers may change it
``consul_client``  Consul's HTTP API, typed, without threads
``answers``        what Consul's answers mean: pure functions
``backoff``        how long to wait after failures; ``outage`` says in the log that there are any
``register``       the gateway's own registration
``snapshot``       the last good tables on disk, for a start without Consul

Endpoints that the configuration lists need no discovery. Whole tables are published, through a
callback; who takes them is the composition root's business.
"""

from siger_gateway.deferred import defer

# All that the package itself does is to import a client made of requests; ``consul_client`` has a
# wire of its own and needs only submodules.
defer("consul")

import consul  # noqa: E402 - it must be deferred by then
from consul.check import Check  # noqa: E402

consul.Check = Check  # which one of the submodules takes from the package
