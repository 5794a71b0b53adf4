"""The experiment `words`: what vocabularies and meanings do over weeks and months."""
