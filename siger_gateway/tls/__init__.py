"""TLS on both sides of the gateway, over the standard library's ``ssl`` and nothing else.

``x509``          what a certificate says of itself: its names, and until when it holds
``contexts``      files -> ``ssl.SSLContext``, with the protocol versions and ciphers that we accept
``certificates``  the listener's certificates: which one a client gets, and their renewal
``client``        the same for connections to a service, and how one is opened
``transport``     a TLS connection as an asyncio transport over a plain one

It knows no configuration classes and no HTTP: names of files come in, bytes pass through.
"""
