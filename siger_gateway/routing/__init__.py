"""Which route a request takes, and which routes there are.

``path``       what a path means
``table``      finds the route of a request
``rewrite``    what a service gets in place of the path that was asked for
``tags``       the routes that services in Consul ask for
``effective``  all routes there are, from the file, the tags and the gateway itself
``describe``   routes in words
"""
