"""Shorter vectors from long ones: one file per way to make them."""
