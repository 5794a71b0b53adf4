"""What the benchmarks are told: a version's vectors, and what a day's tables say about the same
consumers and producers."""
