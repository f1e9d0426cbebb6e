"""Protobuf and gRPC stubs generated from protos/fleet/v1 by `make protos`; never edited."""
