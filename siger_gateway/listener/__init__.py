"""Listening sockets: accepting connections for either wire, TLS, room for newcomers, the drain."""
