"""The rankers, one file each; see `base` for what such a file defines."""
