"""Arguments in the one set of types that a kernel is compiled for.

Numba compiles a kernel again for every new combination of types, which would stall the first
request that brings one.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp


def csr_arguments(x: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """indptr as int64, indices as int32 and the values as float32."""
    return x.indptr.astype(np.int64), x.indices.astype(np.int32), x.data.astype(np.float32)


def read_only(array: np.ndarray) -> np.ndarray:
    """A read-only view: an array in memory then has the type of one mapped from a file."""
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view
