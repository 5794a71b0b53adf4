"""The models that rank: features, rankers, training, metrics, storage and serving."""
