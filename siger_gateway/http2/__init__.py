"""The HTTP/2 wire (RFC 9113) and its header compression (RFC 7541), on both sides.

Bytes, no I/O:
``faults``         what a peer may do wrong, and the error codes for it
``frames``         bytes -> frames -> what they say, and back: RFC 9113 section 6
``hpack_decoder``  header block -> fields: one for each connection, as it keeps the dynamic table
``hpack_encoder``  fields -> header block: one for all, as it leaves the dynamic table empty
``static_table``, ``huffman``  what both share
``messages``       fields -> requests and responses, and back: RFC 9113 section 8
``flood``          how much a peer may send of what costs it nothing

Connections:
``connection``     what both ends do alike: frames in, settings, windows, frames out
``stream``         one stream of either: what of its DATA waits for a window
``server``, ``server_stream``  one client, and its exchanges
``client``, ``client_stream``  one connection to a service, and the exchanges on it
``tunnel``         a stream as a transport: WebSockets
"""
