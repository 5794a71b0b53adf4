"""How embeddings are evaluated: standard tasks (`tasks`, one file each, run by `judging`), data
splits, ranking metrics, and bootstrap intervals by user."""
