"""History of telemetry.db."""
