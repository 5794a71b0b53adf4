"""What people call an id: the text feature `name` of any published table of its entity."""

from __future__ import annotations

from collections.abc import Sequence

from embeddings.registry.client import Registry
from embeddings.registry.errors import DamagedVersion
from embeddings.registry.versions import FEATURES

NAME = "name"  # the column of a table of features


def names_of(registry: Registry, entity: str, ids: Sequence[str]) -> dict[str, str]:
    """The names of those ids that have one, by the newest version of the first table with names."""
    for table_name in registry.names(FEATURES):
        try:
            table = registry.load_features(registry.version(table_name))
        except DamagedVersion:  # pages do without names
            continue
        column = table.columns.get(NAME)
        if table.entity == entity and column is not None and column.dtype.kind == "S":
            feature = f"{table_name}.{NAME}"
            found = registry.features(entity, ids, [feature]).features[feature]
            names = zip(ids, found.values.tolist(), strict=True)
            return {id_: name.decode() for id_, name in names if name}
    return {}
