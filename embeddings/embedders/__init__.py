"""Embedders: every file but `base` learns vectors of consumers and producers in one way.

`embedding.method` in the settings names the file.
"""
