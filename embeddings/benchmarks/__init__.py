"""How embeddings are evaluated: data splits, ranking metrics, and bootstrap intervals by user."""
