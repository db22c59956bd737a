"""The HTTP/1.1 wire, on both sides.

``parser``   bytes -> messages, no I/O: the rules of RFC 9112 that llhttp leaves to its user
``headers``  what a gateway must know about header fields: hop-by-hop names, encoding a head
``server``   one downstream connection: requests in order, responses written back
``client``   one upstream connection: a request written, its response read
``tornado``  Tornado's ``Application`` on this wire, for the gateway's own endpoints
"""
