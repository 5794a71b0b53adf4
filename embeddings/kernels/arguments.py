"""Arguments of kernels, in the one set of types that each is compiled for.

Numba compiles a kernel again for every new combination of types, which would stall the first
request that brings one.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp


def csr_arguments(x: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """indptr (n + 1,) int64, indices (nnz,) int32 and the values (nnz,) float32."""
    return x.indptr.astype(np.int64), x.indices.astype(np.int32), x.data.astype(np.float32)


def read_only(array: np.ndarray) -> np.ndarray:
    """A read-only view: an array in memory then has the type of one mapped from a file."""
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view


def positive(strengths: np.ndarray) -> np.ndarray:
    """The strengths as float32. Raises ValueError unless all are above 0, as ALS needs them."""
    single = strengths.astype(np.float32, copy=False)
    # Written so that a NaN fails too. A comparison of each would take as much memory again.
    if not single.min(initial=1.0) > 0:
        raise ValueError("A strength is not above 0: leave out pairs without engagement.")
    return single


def penalties(
    counts: np.ndarray,
    others: int,
    unobserved_weight: float,
    regularization: float,
    frequency_exponent: float,
) -> np.ndarray:
    """The penalties of ALS's rows, λ_i = λ (|S_i| + α0 · others)^ν, (n,) float32.

    counts: (n,), |S_i|. others: number of rows of the other side. See `embedders.als`.
    """
    sizes = counts + unobserved_weight * others
    return (regularization * sizes**frequency_exponent).astype(np.float32)
