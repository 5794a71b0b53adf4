"""Words that are used otherwise are found, and no others."""

from __future__ import annotations

import numpy as np

from embeddings.words.meaning import Half, Movement, movement

N, DIM = 1200, 16
CHANGED = 60


def half(meaning: np.ndarray, noise: float, rng: np.random.Generator) -> Half:
    """Vectors as learned from some texts: the meanings with noise, in coordinates of their own."""
    rotation, _ = np.linalg.qr(rng.normal(size=(DIM, DIM)))
    vectors = (meaning + noise * rng.normal(size=meaning.shape)) @ rotation
    ids = np.array([f"w{n:05d}" for n in range(len(meaning))], np.bytes_)
    return Half(ids, vectors.astype(np.float32), rng.integers(5, 500, len(ids)))


def periods(changed: int, shift: float = 0.0, seed: int = 0) -> Movement:
    """Two periods between which the first `changed` words get another meaning.

    shift: how much all others differ between the periods besides, as if their contexts did.
    """
    rng = np.random.default_rng(seed)
    before = rng.normal(size=(N, DIM))
    now = before + shift * rng.normal(size=(N, DIM))
    now[:changed] = rng.normal(size=(changed, DIM))
    first = tuple(half(before, 0.5, rng) for _ in range(2))
    second = tuple(half(now, 0.5, rng) for _ in range(2))
    return movement(first, second)


def test_changed_words_are_found_at_the_top():
    """All of them first, and of what is named a tenth by chance."""
    wrong = []
    for seed in range(5):
        found = periods(CHANGED, seed=seed)
        true = found.ids < b"w00060"
        assert true[found.order()[:CHANGED]].mean() > 0.95
        named = found.found()
        assert named[true].mean() > 0.9
        wrong.append(np.mean(~true[named]))
    assert np.mean(wrong) < 0.15


def test_nothing_is_found_where_nothing_has_changed():
    assert [periods(0, seed=seed).found().sum() for seed in range(10)] == [0] * 10


def test_what_moves_all_words_moves_none_beside_the_others():
    """Every vector changes as much in as many directions; the changed ones still stand out."""
    found = periods(CHANGED, shift=0.3)
    true = found.ids < b"w00060"
    assert true[found.order()[:CHANGED]].mean() > 0.95
    assert abs(np.median(found.moved[~true])) < 0.02


def test_only_words_that_all_halves_have_are_compared():
    rng = np.random.default_rng(0)
    halves = [half(rng.normal(size=(n, DIM)), 0.1, rng) for n in (50, 40, 60, 45)]
    found = movement((halves[0], halves[1]), (halves[2], halves[3]))
    assert found.ids.tolist() == halves[1].ids.tolist()
    assert found.counts.tolist() == np.min([each.counts[:40] for each in halves], 0).tolist()


def test_periods_without_a_word_in_common_have_nothing_to_compare():
    rng = np.random.default_rng(0)
    some, none = half(rng.normal(size=(5, DIM)), 0.1, rng), half(np.zeros((0, DIM)), 0.1, rng)
    found = movement((some, some), (none, none))
    assert (len(found.ids), len(found.found()), len(found.order())) == (0, 0, 0)


def test_the_threshold_is_the_lowest_that_keeps_the_level():
    """By hand: five words are above all of chance, (1 + 0) / 2 ≤ 0.1 · 5; with the sixth one of
    chance is as large, and (1 + 1) / 2 > 0.1 · 6."""
    deviations = np.array([2.5, 2.6, 2.7, 2.8, 2.9, 2.4, 1.0])
    chance = np.zeros((2, 7))
    chance[1, 3] = 2.4
    ids = np.arange(7).astype(np.bytes_)
    found = Movement(ids, np.ones(7, int), deviations, deviations, chance).found(0.1)
    assert found.tolist() == [True] * 5 + [False] * 2
