"""Where the endpoints of services come from.

``consul``         the watcher: keeps the tables of the watched services and publishes each change
``consul_client``  Consul's HTTP API, typed, without threads
``answers``        what Consul's answers mean: pure functions
``register``       the gateway's own registration
``snapshot``       the last good tables on disk, for a start without Consul

Endpoints that the configuration lists need no discovery. Whole tables are published, through a
callback; who takes them is the composition root's business.
"""
