"""The registry: every published version of every embedding, its contents and its lineage.

Python code uses `Registry`; `service` offers the same over HTTP with pages for people, `commands`
on the command line; `responses` holds the JSON that both of these return. `RemoteRegistry` has the
reading verbs of `Registry` for a process that can reach the service but not the files. Underneath:

    loaded, answers      an open version, and what it answers; `diff` compares two of them
    features             tables of features, and features of any kind by name
    files, shards        the immutable arrays of a version; `checks` validates them
    vectors, chunked     these arrays as they are read; `search` finds the nearest vectors
    catalog, versions    which versions exist, and which of them are current
    aliases              which versions the aliases point at, and pointed at before

Of the service:

    parameters, schemas  what requests may contain, and the types of what is answered
    formats, arrow       vectors as JSON or as an Arrow stream
    finder               which version a reference means, remembered until the catalog changes
    limits, failures     what is refused before any route sees it, and how errors are answered
    metrics, pages       for those who operate it, and for people

Nothing here imports Spark, torch, Airflow, MLflow, `jobs` or `models`, so any service can use it.
numba is imported only when a version's fold-in is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embeddings.registry.client import Registry, Vectors, Version
    from embeddings.registry.remote import RemoteRegistry

__all__ = ["Registry", "RemoteRegistry", "Vectors", "Version"]


def __getattr__(name: str) -> Any:
    """Import the client on first use: importing a submodule should not import the catalog too."""
    if name == "RemoteRegistry":
        return importlib.import_module("embeddings.registry.remote").RemoteRegistry
    if name in __all__:
        return getattr(importlib.import_module("embeddings.registry.client"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
