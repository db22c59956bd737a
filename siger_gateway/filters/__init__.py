"""What decides whether a request may pass, between the route and the service: one file each.

A route compiles to a flat tuple of exactly the filters that it uses, so what is off costs nothing.

``filter``        what a filter is, and what it is told
``identity``      who a request comes from

No filter is built in yet: this is what they will have in common.
"""
