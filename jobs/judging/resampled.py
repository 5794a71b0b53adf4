"""AUC and log loss of models on resampled users, as embeddings.benchmarks.intervals resamples them.

Of the rows, a piece is in memory at a time. What is there of every user is a number, a few sums,
and how often some of the resamples have drawn it: WEIGHTS bytes in all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from embeddings.benchmarks.intervals import CHUNK, Estimate
from embeddings.kernels.weighted_pairs import WeightedPairs
from jobs.judging.shelves import Shelves
from models.metrics import log_losses
from models.ordering import in_order
from models.scratch import Column, Scratch, pieces

Batches = Callable[[], Iterable[pa.RecordBatch]]
WEIGHTS = 1 << 26  # of users, that are in memory at a time; a byte each


@dataclass(frozen=True)
class Estimates:
    """Of one model; paired with those of the others."""

    auc: Estimate
    log_loss: Estimate


@dataclass(frozen=True)
class Users:
    """The users of the rows, in the order of their ids.

    of_rows: (n,) uint32, the number of each row's user. rows: (U,) of each user.
    """

    of_rows: Column
    rows: np.ndarray

    @classmethod
    def of(cls, batches: Batches, rows: int, scratch: Scratch) -> Users:
        shelves = Shelves.of(lambda: (each["consumer_id"] for each in batches()), rows, scratch)
        distinct = [pc.unique(shelf) for shelf in shelves]
        place = places(pa.concat_arrays(distinct))
        on_shelves = scratch.columns(np.uint32, shelves.sizes)
        first = 0
        for shelf, ids, column in zip(shelves, distinct, on_shelves, strict=True):
            column.append(place[first + shelf.dictionary_encode().indices.to_numpy()])
            first += len(ids)
        of_rows = scratch.column(np.uint32)
        counts = np.zeros(len(place), np.int64)
        for piece in shelves.in_rows(on_shelves):
            of_rows.append(piece)
            np.add.at(counts, piece, 1)
        return cls(of_rows, counts)


def places(ids: pa.StringArray) -> np.ndarray:
    """The place of each id in the order of all: (U,) different texts -> (U,) uint32."""
    place = np.empty(len(ids), np.uint32)
    place[pc.array_sort_indices(ids).to_numpy()] = np.arange(len(ids), dtype=np.uint32)
    return place


def resampled(
    batches: Batches, rows: int, models: Sequence[str], resamples: int, seed: int, scratch: Scratch
) -> dict[str, Estimates]:
    """Each model's estimates, on the same resamples of whole users.

    batches: of all rows, with the columns consumer_id, label and one of scores for each model, as
    often as it is called. rows: of all batches. The draws depend only on the seed and the number of
    users. Without rows, every estimate is NaN.
    """
    if not rows:
        none = Estimate(np.nan, np.nan, np.nan)
        return dict.fromkeys(models, Estimates(none, none))
    users = Users.of(batches, rows, scratch)
    losses = {model: np.zeros(len(users.rows)) for model in models}
    ordered = {}
    for model in models:
        ordered[model] = rows_in_order(batches, users, model, losses[model], scratch)
    aucs: dict[str, list[np.ndarray]] = {model: [] for model in models}
    means: dict[str, list[float]] = {model: [] for model in models}
    n_users = len(users.rows)
    # At once as many resamples as fit; at least one. A byte is enough: a user is drawn once on
    # average, and 256 times less than once in 10^500 resamples.
    most = max(1, min(CHUNK, WEIGHTS // n_users))
    counts = draws(n_users, resamples, seed)
    for start in range(0, 1 + resamples, most):
        weights = np.empty((n_users, min(most, 1 + resamples - start)), np.uint8)
        for number in range(weights.shape[1]):
            drawn = next(counts)
            weights[:, number] = drawn
            drawn_rows = (drawn * users.rows).sum()
            for model in models:
                means[model].append((drawn * losses[model]).sum() / drawn_rows)
        for model, column in ordered.items():
            aucs[model].append(weighted_aucs(column, weights, scratch.piece))
    return {
        model: Estimates(estimate(np.concatenate(aucs[model])), estimate(np.array(means[model])))
        for model in models
    }


def estimate(values: np.ndarray) -> Estimate:
    """values: of the rows themselves, and of every resample."""
    return Estimate.from_draws(float(values[0]), values[1:])


def draws(n_users: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each user counts, (U,): once, and then as often as each resample has drawn it."""
    yield np.ones(n_users, np.int64)
    rng = np.random.default_rng(seed)
    equal = np.full(n_users, 1 / n_users)
    for _ in range(resamples):
        yield rng.multinomial(n_users, equal)


def rows_in_order(
    batches: Batches, users: Users, model: str, losses: np.ndarray, scratch: Scratch
) -> Column:
    """The rows by ascending score of a model: score, and `drawn` as WeightedPairs.add reads it.

    losses: (U,), to which the log losses of each user's rows are added.
    """
    rows: Column | None = None
    done = 0
    for batch in batches():
        user = users.of_rows[done : done + len(batch)]
        done += len(batch)
        labels, scores = batch["label"].to_numpy(), batch[model].to_numpy()
        np.add.at(losses, user, log_losses(labels, scores))
        piece = np.empty(len(batch), [("score", scores.dtype), ("drawn", np.uint32)])
        piece["score"] = scores
        piece["drawn"] = 2 * user + (labels > 0)
        rows = rows or scratch.column(piece.dtype)
        rows.append(piece)
    assert rows is not None, "there are rows"
    ordered = scratch.column(rows.dtype)
    with scratch.further() as own:
        for piece in in_order(rows, "score", own):
            ordered.append(piece)
    return ordered


def weighted_aucs(rows: Column, weights: np.ndarray, size: int) -> np.ndarray:
    """(r,) float64. rows: as of `rows_in_order`. weights: (U, r). size: rows at a time."""
    pairs = WeightedPairs(weights)
    for piece in pieces(rows, size):
        pairs.add(piece["score"].copy(), piece["drawn"].copy())
    return pairs.auc()
