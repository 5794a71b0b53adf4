"""Embedders: every file that defines `EMBEDDER` is a way to learn vectors.

`embedding.method` in the settings names the file.
"""
