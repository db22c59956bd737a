"""The HTTP/2 wire, on both sides."""
