"""Two towers: vectors of consumers and producers from their engagements and their features."""
