"""Fold-ins: vectors for consumers that the factorisation was not fitted on. One file per kind.

`from embeddings.fold_in import SVDFoldIn` imports the kind's file, and with it numba, only then.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

SUFFIX = "FoldIn"


def __getattr__(name: str) -> Any:
    """The class of a kind: SVDFoldIn is in svd.py."""
    module = f"{__name__}.{name.removesuffix(SUFFIX).lower()}"
    if name.endswith(SUFFIX) and name != SUFFIX and find_spec(module):
        return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
