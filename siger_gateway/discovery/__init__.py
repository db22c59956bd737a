"""Where the endpoints of services come from. Everything here publishes whole endpoint tables.

``consul``    the watcher: blocking queries in the background, and what is believed of the answers
``client``    py-consul on Tornado's HTTP client
``register``  the gateway's own entry in Consul
``snapshot``  the last good tables on disk, for a start without Consul
"""
