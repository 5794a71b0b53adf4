"""The decay report: what a recommender loses with every day on which it is not refreshed."""
