"""Where published content is kept: a folder, or a bucket of an object store with a local copy."""
