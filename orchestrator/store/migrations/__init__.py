"""Alembic histories of the two database files; `env` runs them at start, inside one transaction."""
