"""The HTTP/1.1 wire, on both sides.

``request_parser``, ``response_parser``
             bytes -> messages, no I/O: the rules of RFC 9112 that llhttp leaves to its user
``plain``    the same for heads that can have one meaning only, which nearly all can
``server``   one downstream connection: requests in order, responses written back
``client``   one upstream connection: a request written, its response read
"""
