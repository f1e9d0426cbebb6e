"""The publisher: a program of its own that holds the keys of snapshot and timestamp, and no other.

It runs on another machine than the coordinator. Whoever captures one of the two cannot publish on their own: the
coordinator has no key, and the publisher signs nothing that others did not sign completely.
"""
