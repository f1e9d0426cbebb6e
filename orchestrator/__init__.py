"""Coordinator: decides, stores and serves; it is never trusted with code-signing or grant-approving keys.

Start reading at `server.py` (what is built), `deployments.py` (what a deploy does) and `rpc/` (how it is asked for).
"""
