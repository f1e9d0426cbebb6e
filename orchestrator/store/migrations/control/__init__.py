"""History of control.db."""
