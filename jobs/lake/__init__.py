"""The lake: the one door to the files of partitions."""

from jobs.lake.store import Lake, Partition, Staging

__all__ = ["Lake", "Partition", "Staging"]
