"""Spaces: coordinate systems in which the vectors of many days can be mixed."""
