"""The pipeline: everything that touches files, Spark and services; and the command line."""
