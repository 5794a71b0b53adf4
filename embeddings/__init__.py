"""Embeddings: maths at the top, versions in `registry`, measures in `benchmarks`."""
