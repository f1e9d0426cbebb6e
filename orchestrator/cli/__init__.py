"""fleetctl: what operators type. It reaches the coordinator only over the wire and signs on this machine only.

`main.py` is the composition root; each topic is one module of commands; `client.py` is the one gRPC door, `render.py`
the one place that prints.
"""
