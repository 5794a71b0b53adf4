"""Vectors learned from pairs that occur together, by skip-gram with negative sampling."""
