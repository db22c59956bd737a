"""What decides whether a request may pass, between the route and the service: one file each.

A route compiles to a flat tuple of exactly the filters that it uses, so what is off costs nothing.

``filter``         what a filter is, and what it is told
``chain``          from the policy of a route to its filters, in their order
``access``         addresses (``networks``)
``cors``           pages of other origins
``sizes``          bodies and heads of one route
``rate_limit``     how often, how many at a time (``gcra``, ``rate_limit_fields``, ``concurrency``)
``authenticate``   who it is (``identity``): tokens (``tokens``, ``claims``, ``key_set``, ``jwks``,
                   ``jwks_fetch``), ``api_keys`` (``api_key_file``), certificates, ``forward_auth``
``headers``        fields for browsers, and those that no client may send
"""
