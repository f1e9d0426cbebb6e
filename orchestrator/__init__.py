"""Coordinator: decides, stores and serves; it is never trusted with code-signing or grant-approving keys.

Start reading at `server.py` (what is built), `deployments.py` (what a deploy does) and `rpc/` (how it is asked for).
"""

import os

# gRPC has no setting for the oldest TLS that it speaks, and reads this one when it is loaded. Every TLS 1.2 suite that
# is left needs an RSA certificate, and the fleet's are all P-256: what remains is TLS 1.3, whose suites are others.
os.environ.setdefault("GRPC_SSL_CIPHER_SUITES", "ECDHE-RSA-AES128-GCM-SHA256")
