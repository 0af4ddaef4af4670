"""Metrics: what the other floors count, in the form that Prometheus reads."""
