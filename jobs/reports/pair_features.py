"""What vectors say of a consumer and a candidate, as numbers that a ranker reads.

    product     the expected strength u·v, and the cosine
    recent      mean and highest cosine of the candidate with what the consumer engaged with last
    lookalike   highest, middle and lowest product of the candidate with the mean consumers of the
                consumer's groups (Shiebler et al. 2018, Figure 7)

A number is NaN where a vector is not known. All of it is known before the day that is ranked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp

from embeddings.spaces.similarity import unit_rows
from jobs.judging.labels import counts
from jobs.lake.schema import ENGAGEMENT_TABLE
from jobs.pipeline.chain import trusted_days_counted
from jobs.reports.daily_versions import fit_window
from jobs.reports.methods import Method
from jobs.settings import Settings

RECENT = 10  # engaged producers or items of a consumer that a candidate is compared with
ROWS = 4096  # whose vectors are gathered at once


@dataclass(frozen=True)
class Engaged:
    """The engagements of a window: consumer and entity of each, oldest first.

    consumers: (n,) ids, entities: (m,) ids, both sorted; rows, columns: (e,) of each engagement;
    strengths: (e,).
    """

    consumers: pd.Index
    entities: pd.Index
    rows: np.ndarray
    columns: np.ndarray
    strengths: np.ndarray

    @property
    def matrix(self) -> sp.csr_matrix:
        """(n, m): the sums of the strengths."""
        shape = (len(self.consumers), len(self.entities))
        return sp.csr_matrix((self.strengths, (self.rows, self.columns)), shape=shape)


def engaged_before(settings: Settings, day: date, entity: str) -> Engaged:
    """The trusted days of the ranker's window before a day. entity: "producer" or "item"."""
    column = f"{entity}_id"
    texts = dict.fromkeys(("consumer_id", column, "kind"), pa.string())
    schema = pa.schema(texts | {"value": pa.float64(), "time_ms": pa.int64()})
    tables = [schema.empty_table().append_column("day", pa.array([], pa.int64()))]
    for number, partition in enumerate(trusted_days_counted(settings, day)):
        for part in partition.parts(ENGAGEMENT_TABLE):
            rows = pq.read_table(part.path, columns=schema.names).cast(schema)
            rows = rows.filter(counts(rows, settings.matrix.weights))
            tables.append(rows.append_column("day", pa.array(np.full(len(rows), number))))
    table = pa.concat_tables(tables).to_pandas().dropna(subset=[column])
    table = table.sort_values(["day", "time_ms", "consumer_id", column], kind="stable")
    consumers, entities = pd.Index(table["consumer_id"]), pd.Index(table[column])
    known, candidates = consumers.unique().sort_values(), entities.unique().sort_values()
    weights = table["kind"].map(settings.matrix.weights).fillna(1.0)
    return Engaged(
        known,
        candidates,
        known.get_indexer(consumers),
        candidates.get_indexer(entities),
        (weights * table["value"]).to_numpy(),
    )


@dataclass(frozen=True)
class Sides:
    """Vectors of both sides. consumers: (n, k); entities: (m, k) float32, zeros for none.

    targets: (m, k), whose products with consumers are the expected strengths.
    """

    consumers: np.ndarray
    entities: np.ndarray
    targets: np.ndarray


def learned(engaged: Engaged, method: Method, min_engagements: int) -> Sides:
    """The vectors of a window. Consumers with fewer engagements than that are folded in.

    Nobody has a vector before the first engagement.
    """
    if not len(engaged.rows):
        return Sides(*(np.zeros((1, 1), np.float32) for _ in range(3)))
    events = np.bincount(engaged.rows, minlength=len(engaged.consumers))
    fit = fit_window(engaged.matrix, events, method, min_engagements, seed=0)
    shape = (len(engaged.entities), fit.consumers.shape[1])
    entities, targets = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    entities[fit.columns] = fit.model.producers
    targets[fit.columns] = fit.model.targets
    return Sides(fit.consumers, entities, targets)


def recent(engaged: Engaged, most: int = RECENT) -> np.ndarray:
    """What each consumer engaged with last, (n, most) columns; -1 where there are no more.

    Without consumers it has one row all the same, which unknown consumers can point at.
    """
    pairs = pd.DataFrame({"row": engaged.rows, "column": engaged.columns})
    last = pairs.drop_duplicates(keep="last").groupby("row").tail(most)
    place = last.groupby("row").cumcount().to_numpy()
    found = np.full((max(len(engaged.consumers), 1), most), -1, np.int64)
    found[last["row"].to_numpy(), place] = last["column"].to_numpy()
    return found


# Features of rows: `consumers` and `candidates` are positions, (r,), -1 for one that is not known.


def product_features(sides: Sides, consumers: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """(r, 2): the expected strength, and the cosine."""
    units = unit_rows(sides.consumers), unit_rows(sides.entities)
    found = np.full((len(consumers), 2), np.nan, np.float32)
    for part in chunks(len(consumers)):
        u, v = consumers[part], candidates[part]
        found[part, 0] = np.einsum("rk,rk->r", sides.consumers[u], sides.targets[v])
        found[part, 1] = np.einsum("rk,rk->r", units[0][u], units[1][v])
    unknown = ~known(sides.consumers, consumers) | ~known(sides.entities, candidates)
    found[unknown] = np.nan
    return found


def recent_features(
    sides: Sides, last: np.ndarray, consumers: np.ndarray, candidates: np.ndarray
) -> np.ndarray:
    """(r, 2): mean and highest cosine with what the consumer engaged with last.

    last: as `recent` finds it.
    """
    units = unit_rows(sides.entities)
    found = np.full((len(consumers), 2), np.nan, np.float32)
    for part in chunks(len(consumers)):
        others = last[consumers[part]]  # (r, most)
        there = (others >= 0) & (consumers[part] >= 0)[:, None]
        there &= known(sides.entities, others)
        cosines = np.einsum("rk,rnk->rn", units[candidates[part]], units[others])
        number = there.sum(axis=1)
        mean = np.where(there, cosines, 0).sum(axis=1) / np.maximum(number, 1)
        highest = np.where(there, cosines, -np.inf).max(axis=1)
        found[part] = np.where(number[:, None] > 0, np.column_stack([mean, highest]), np.nan)
    found[~known(sides.entities, candidates)] = np.nan
    return found


def lookalike_features(
    sides: Sides, groups: np.ndarray, consumers: np.ndarray, candidates: np.ndarray
) -> np.ndarray:
    """(r, 3): highest, middle and lowest product with the mean vectors of the consumer's groups.

    groups: (r, c), the group of each row's consumer by each of c columns of a profile. The members
    of a group are the consumers of the rows, each once.
    """
    scores = np.empty(groups.shape, np.float32)
    for column in range(groups.shape[1]):
        means, position = group_means(sides.consumers, consumers, groups[:, column])
        for part in chunks(len(consumers)):
            v = sides.targets[candidates[part]]
            scores[part, column] = np.einsum("rk,rk->r", means[position[part]], v)
    scores[~known(sides.entities, candidates)] = np.nan
    return np.column_stack(
        [scores.max(axis=1), np.median(scores, axis=1), scores.min(axis=1)]
    ).astype(np.float32)


def group_means(
    vectors: np.ndarray, consumers: np.ndarray, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The mean vector of each group, (g, k), zeros without members; and each row's group, (r,)."""
    names, position = np.unique(groups, return_inverse=True)
    members = np.unique(np.column_stack([position, consumers]), axis=0)
    members = members[known(vectors, members[:, 1])]
    sums = np.zeros((len(names), vectors.shape[1]), np.float32)
    np.add.at(sums, members[:, 0], vectors[members[:, 1]])
    sizes = np.bincount(members[:, 0], minlength=len(names))
    return sums / np.maximum(sizes, 1)[:, None].astype(np.float32), position


def known(vectors: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Which positions, of any shape, have a vector that is not zero."""
    has_vector = np.asarray(vectors.any(axis=1))
    return (positions >= 0) & has_vector[positions]


def chunks(n: int) -> Iterator[slice]:
    for start in range(0, n, ROWS):
        yield slice(start, start + ROWS)
