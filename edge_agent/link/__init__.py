"""The node's only door to the network: gRPC lives here and nowhere else in `edge_agent`.

`channel` opens channels and translates errors, `enrolment` joins and renews, `remote` fetches, `session` speaks over
one stream, `link` keeps one open. Import these after the zygote was started: gRPC's threads do not survive a fork.
"""
