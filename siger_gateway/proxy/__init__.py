"""The proxied path of a request.

``dispatch``   from a parsed request to the one who answers it: match route
``last_hop``   what the gateway answers itself: ``OPTIONS *``, ``Max-Forwards: 0``
``exchange``   one proxied exchange, its phases from top to bottom
``answer``     redirects and direct responses: what the gateway answers by configuration
``edits``      changes to header fields
``request_body`` what comes before there is a connection, or may have to be sent again
``tunnel``     after an Upgrade: bytes both ways
``attempts``   those after the first: whether, on which endpoint, and when
``retry``      whether a failed attempt may be repeated
``route``      what a route needs at run time
``compile``    from the effective routes to the table of these
``forwarded``  who the client is, and the fields that tell the service
``account``    what stays of an exchange: metrics and a line in the access log
"""
