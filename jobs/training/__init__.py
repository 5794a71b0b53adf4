"""The training of a ranker beside its step: on several processes, and its pictures."""
