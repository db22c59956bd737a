"""Siger, an API gateway: one process, one event loop, REST and gRPC to services and to a job queue.

The words of this code base, used in the same sense everywhere (they are Envoy's and HTTP's):

downstream      the side of the client; a *downstream connection* is one that the gateway accepted
upstream        the side of the service; an *upstream connection* is one that the gateway opened
listener        an address on which the gateway accepts downstream connections
route           a rule that matches requests by path, host, method and header fields, and says
                what becomes of them
cluster         the service behind a route: its endpoints, and how one of them is chosen
endpoint        one address of a cluster, with its own connections and counters
exchange        one request and its response passing through the gateway: in HTTP/2 a *stream*, in
                gRPC a *call*
phase           one step of an exchange: parse head, match route, filters, select endpoint, acquire
                connection, send head, relay body, relay response, release, account
local reply     a response that the gateway itself wrote, usually an error; it carries a *reason*
reason          the stable word for why a local reply happened; the same word stands in the problem
                document, the access log, the metric label and ``Proxy-Status``
drain           finish what was accepted, accept nothing new, then stop
ledger          the jobs as last seen in the JetStream stream: a projection, never the truth
"""

__version__ = "0.1.0"
