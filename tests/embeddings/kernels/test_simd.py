"""The SIMD intrinsics agree with NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from embeddings.kernels.simd import (
    LANES,
    LINE_BYTES,
    empty_aligned,
    fma,
    load,
    prefetch,
    splat,
    store,
    total,
)


@njit
def scaled_sum(a, x, y, out):
    """out = a x + y, row by row; returns its sum."""
    added = splat(np.float32(0.0))
    for i in range(x.shape[0]):
        prefetch(x, (i, 0))
        for f in range(0, x.shape[1], LANES):
            z = fma(splat(a), load(x, (i, f)), load(y, (i, f)))
            store(out, (i, f), z)
            added = fma(z, splat(np.float32(1.0)), added)
    return total(added)


@pytest.mark.parametrize("shift", [0, 1], ids=["on a cache line", "across cache lines"])
def test_lanes_compute_what_numpy_does(shift):
    rng = np.random.default_rng(0)
    room = rng.standard_normal((3, 5 * 32 + shift)).astype(np.float32)
    x, y, out = (part[shift:].reshape(5, 32) for part in room)
    expected = np.float32(2.5) * x + y
    assert scaled_sum(np.float32(2.5), x, y, out) == pytest.approx(expected.sum(), abs=1e-4)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(0, 16), (1, 16), (7, 48)])
def test_aligned_rows_begin_where_a_cache_line_does(shape):
    rows = empty_aligned(*shape)
    assert rows.shape == shape
    assert rows.dtype == np.float32
    assert rows.ctypes.data % LINE_BYTES == 0
