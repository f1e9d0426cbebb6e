"""Node side: a supervisor that verifies, runs, restarts and reports agents, and runners that host them.

Start reading at `agent.py` (what is built), `admission.py` (what may run) and `lifecycle.py` (how it runs).
"""
