"""Measurements against peers, each started by `make bench-NAME`, with results in perf/results."""
