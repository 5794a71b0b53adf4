"""Simulation: logs of a world where the truth is known. Pure NumPy; imports nothing of ours."""
