"""Reads what the benchmarks need: a version's vectors, and labels from a day's tables."""
