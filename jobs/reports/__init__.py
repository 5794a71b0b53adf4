"""Experiments: they measure the claims about the embeddings, by `evergreen experiment NAME`."""
