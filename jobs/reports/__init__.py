"""Experiments: what a claim about the embeddings rests on, measured anew by `evergreen experiment NAME`."""
