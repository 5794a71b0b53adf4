"""What a simulated world has of a day, as Arrow tables in the columns of jobs/lake/schema.py.

A consumer is c1, a producer p1, an item i1, a topic t1, a region r1 and a web domain d1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simulation import engagements, signups
from simulation.engagements import KINDS, Impressions
from simulation.graph import degree
from simulation.items import catalog
from simulation.people import consumers, producers
from simulation.world import World


def named(prefix: str, numbers: np.ndarray) -> pa.Array:
    """Numbers as names: c17. A number below zero is null."""
    texts = pa.array(numbers, mask=numbers < 0).cast(pa.string())
    return pc.binary_join_element_wise(prefix, texts, "")


def lists(values: pa.Array, lengths: np.ndarray) -> pa.Array:
    """The values in n lists, one after another; an empty one is null. lengths: (n,)."""
    ends = np.concatenate([[0], np.cumsum(lengths)])
    offsets = pa.array(ends, pa.int32(), mask=np.append(lengths == 0, False))
    return pa.ListArray.from_arrays(offsets, values)


def one_of(names: tuple[str, ...], numbers: np.ndarray) -> pa.Array:
    return pa.array(names).take(pa.array(numbers))


def impressions(world: World, day: int, block: int, midnight_ms: int) -> pa.Table:
    """The impressions of a block of consumers. midnight_ms: when the day begins, since 1970."""
    return shown(world, engagements.impressions_of(world, day, block), midnight_ms)


def shown(world: World, rows: Impressions, midnight_ms: int) -> pa.Table:
    columns = {
        "consumer_id": named("c", rows.consumers),
        "producer_id": named("p", rows.producers),
        "item_id": named("i", rows.items),
        "time_ms": pa.array(midnight_ms + rows.times_ms),
        "dwell_ms": pa.array(rows.dwell_ms),
    }
    for number, kind in enumerate(KINDS):
        columns[f"label_{kind}"] = pa.array(rows.labels[:, number].astype(np.int32))
    columns["ctx_surface"] = one_of(engagements.SURFACES, rows.surfaces)
    columns["ctx_device"] = one_of(signups.DEVICES, signups.devices(world, rows.consumers))
    return pa.table(columns)


def profiles(world: World, day: int, block: int, midnight_ms: int) -> pa.Table:
    """The consumers of a block of places, as their profiles are on the day."""
    places = engagements.places_of(world, block)
    crowd = consumers(world, day, places)
    rows, domains = signups.remembered_visits(crowd).T
    return pa.table(
        {
            "consumer_id": named("c", crowd.ids),
            "cat_region": named("r", signups.regions(world, crowd.ids)),
            "cat_interest": named("t", signups.interests(world, crowd)),
            "num_follows": pa.array(degree(world, crowd.ids).astype(np.float64)),
            "num_days": pa.array((day - crowd.born).astype(np.float64)),
            "bag_domain": lists(named("d", domains), np.bincount(rows, minlength=len(places))),
        }
    )


def items(world: World, day: int, block: int, midnight_ms: int) -> pa.Table:
    """All items that can be shown on the day: they are not divided."""
    found = catalog(world, day)
    return pa.table(
        {
            "item_id": named("i", found.ids),
            "producer_id": named("p", producers(world, day).ids[found.places]),
            "cat_tag": named("t", found.topics),
            "num_age_days": pa.array(found.age_days.astype(np.float64)),
        }
    )


Make = Callable[[World, int, int, int], pa.Table]
TABLES: dict[str, Make] = {"impressions": impressions, "consumers": profiles, "items": items}


def parts(world: World, table: str) -> int:
    """Into how many blocks a table is divided."""
    return 1 if table == "items" else engagements.blocks(world)


def schema(world: World, table: str) -> pa.Schema:
    """The columns of a table, whatever the day."""
    return TABLES[table](world, 0, parts(world, table) - 1, 0).schema
