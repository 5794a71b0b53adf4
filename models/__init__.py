"""Torch rankers: one idea a file."""
