"""Benchmarks that start all that they need on this machine; see README.md."""
