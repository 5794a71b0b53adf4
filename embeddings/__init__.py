"""What is learned from engagements: pure maths here, versions in `registry`, judgement in `benchmarks`."""
