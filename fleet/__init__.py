"""What the coordinator, the supervisor and fleetctl must agree on byte for byte.

Membership rule: a module belongs here only if two programs would disagree without it. Nothing here touches the
network, the disk, a database, the clock, random numbers or an engine; `now` is always an argument. The generated
protobuf stubs live in `fleet.v1`; only `fleet.wire` and the gRPC doors import them.
"""
