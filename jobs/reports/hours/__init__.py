"""Decay within a day: the next click of a session by vectors that are some hours old."""
