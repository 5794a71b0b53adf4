"""Methods to compare with.

    popularity, item_item, ease, sansa    no vectors: they score histories directly
    deepwalk                              vectors from walks on a graph, in closed form
    lightgcn, simplex                     vectors that are trained, with gradients written out

Each is fitted on a matrix of strengths. A `Scorer` scores any histories: (r, m) strengths in,
(r, m) scores out, where a higher one comes first.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp

Scorer = Callable[[sp.csr_matrix], np.ndarray]
