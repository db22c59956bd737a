"""What decides whether a request may pass, between the route and the service: one file each.

A route compiles to a flat tuple of exactly the filters that it uses, so what is off costs nothing.

``filter``        what a filter is, and what it is told
``identity``      who a request comes from
``authenticate``  finds that out, by one of:
``tokens``, ``key_set``
                  JSON Web Tokens, and the keys that sign them
``api_keys``      keys from a file
``gcra``, ``rate_limit``
                  how often somebody may come: the algorithm, and the filter
``cors``          which origins may read a response in a browser
``access``        which addresses may come at all
"""
