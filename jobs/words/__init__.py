"""Words of texts by week: reading, conversations, phrases, pairs, and how to load a week."""
