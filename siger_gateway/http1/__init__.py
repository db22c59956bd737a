"""The HTTP/1.1 wire, on both sides.

``message``  a request, a response, and the error that is neither
``request_parser``, ``response_parser``
             bytes -> messages, no I/O: the rules of RFC 9112 that llhttp leaves to its user
``headers``  what a gateway must know about header fields: hop-by-hop names, encoding a head
``server``   one downstream connection: requests in order, responses written back
``listener`` the socket that accepts them, and the drain
``client``   one upstream connection: a request written, its response read
``stream``   what passes between a downstream wire and the layers above it
``reply``    a local reply: a ``GatewayError`` as a problem document
``timeouts`` deadlines without timers
``tornado``  Tornado's ``Application`` on this wire, for the gateway's own endpoints
"""
