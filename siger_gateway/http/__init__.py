"""HTTP as every layer sees it, whatever the version: what both wires make of bytes and are told.

``message``     a request, a response, and the error that is neither
``headers``     what a gateway must know about header fields: hop-by-hop names, encoding a head
``stream``      what passes between a downstream wire and the layers above it
``connection``  what a listener and its connections know of each other
``timeouts``    deadlines without timers
``tornado``     Tornado's ``Application`` on these wires, for the gateway's own endpoints
"""
