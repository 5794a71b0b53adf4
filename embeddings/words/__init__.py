"""Vectors of words: tokens and phrases, pairs within a window, training, how meanings move."""
