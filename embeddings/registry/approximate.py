"""Approximate search: the index of an entity that was published with its version.

An index is faiss's inverted file with 8-bit codes (IVF, SQ8) of the unit vectors. A query reads the
codes of the lists whose centres are nearest to it; `search` then compares the best of them by their
vectors, so a cosine is as exact as that of an exact search, and only rows can be missing.

faiss is imported by the first approximate search, not by reading vectors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from embeddings.registry.errors import DamagedVersion
from embeddings.registry.search import Recall, unit

FILE = "neighbours.faiss"  # in an entity's folder
MOST = 100  # neighbours that an index answers, because its recall is measured up to this many
# Rows that are compared by their vectors, because codes are rounded, and one that may be left out;
# more where the manifest says so, because many vectors have almost the same direction. The same for
# few neighbours as for many, so that the measured recall holds for both.
CANDIDATES = 3 * MOST + 1


@dataclass(frozen=True)
class ApproximateIndex:
    """One entity's index, memory-mapped.

    data: the bytes of its file. digest: the SHA-256 with which it was published. facts: what the
    manifest says of it.
    """

    path: Path
    data: np.ndarray
    digest: str
    facts: Mapping[str, Any]

    def recall(self, asking: str) -> Recall | None:
        """The published recall of queries by vectors of an entity; None if it has none."""
        measured = self.facts["recall"].get(asking)
        return None if measured is None else Recall(**measured)

    def candidates(self, query: np.ndarray) -> np.ndarray:
        """Rows that are likely to be among the nearest, ascending. Raises DamagedVersion.

        query: (dim,), not zero.
        """
        compared = self.facts.get("candidates", CANDIDATES)
        found = likely_rows(self._opened, unit(query)[np.newaxis], compared)[0]
        return np.sort(found[found >= 0])  # -1 fills up what the lists do not have

    @cached_property
    def _opened(self) -> Any:
        """The index on the mapped bytes, which are compared with their digest first.

        faiss trusts the sizes and offsets in a file, so a changed one could make it read or write
        anywhere.
        """
        if hashlib.sha256(self.data.data).hexdigest() != self.digest:
            raise DamagedVersion(
                f"{self.path} does not have the digest that it was published with. Publish the day "
                "again, which replaces damaged files, restore it from a backup, or search with "
                "exact=True, which does not read it."
            )
        import faiss

        reader = faiss.ZeroCopyIOReader(  # type: ignore[attr-defined]
            faiss.swig_ptr(self.data), self.data.size
        )
        # Lists stay in the mapped file instead of being copied into this process.
        return faiss.read_index(reader, faiss.IO_FLAG_MMAP_IFC)


def likely_rows(index: Any, queries: np.ndarray, n: int) -> np.ndarray:
    """The n rows whose codes are nearest to each query, (q, n), -1 where there are fewer.

    index: of faiss. queries: (q, dim), of length 1.
    """
    _, rows = index.search(queries, n)
    return rows


def map_index(path: Path, digest: str, facts: Mapping[str, Any]) -> ApproximateIndex:
    """Map the file of an index. Raises OSError, and ValueError if it is empty."""
    data = np.memmap(path, np.uint8, "r").view(np.ndarray)
    return ApproximateIndex(path, data, digest, facts)
