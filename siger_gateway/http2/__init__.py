"""The HTTP/2 wire (RFC 9113) and its header compression (RFC 7541).

So far its floor, which does no I/O: bytes go in and frames or fields come out, and the other way.
Who reads and writes the socket, and what a stream is, is the business of the modules above.

``faults``        what a peer may do wrong, and the error codes for it
``frames``        bytes -> frames -> what they say, and back: RFC 9113 section 6
``hpack_decoder`` header block -> fields: one for each connection, as it keeps the dynamic table
``hpack_encoder`` fields -> header block: one for all, as it leaves the dynamic table empty
``static_table``, ``huffman``  what both share
"""
