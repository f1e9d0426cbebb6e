"""The child process that hosts the agents of one application.

`engine/` is the only place in the project that imports Wasmtime.
"""
