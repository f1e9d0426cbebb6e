"""gRPC doors of the coordinator: decode, call a use case, encode. The only package here that imports gRPC."""
