"""The node's only door to the network: gRPC lives here and nowhere else in `edge_agent`.

`channel` opens channels and translates errors, `enrolment` joins and renews, `remote` fetches, `session` speaks over
one stream, `link` keeps one open. Import these after the zygote was started: gRPC's threads do not survive a fork.
"""

import os

# gRPC has no setting for the oldest TLS that it speaks, and reads this one when it is loaded. Every TLS 1.2 suite that
# is left needs an RSA certificate, and the fleet's are all P-256: what remains is TLS 1.3, whose suites are others.
os.environ.setdefault("GRPC_SSL_CIPHER_SUITES", "ECDHE-RSA-AES128-GCM-SHA256")
