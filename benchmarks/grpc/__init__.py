"""What a gRPC call costs, beside Envoy and nginx: ``python -m benchmarks.grpc``."""
