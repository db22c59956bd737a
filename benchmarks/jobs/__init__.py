"""The jobs part of the benchmark: ``python -m benchmarks.jobs --help``."""
