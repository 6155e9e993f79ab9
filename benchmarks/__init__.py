"""Throughput against a plain reference, measured side by side in one process; `make bench` runs them."""
