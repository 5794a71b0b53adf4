"""A small world of topics for benchmarks: vectors that know them, and labels that follow them."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from embeddings.benchmarks.tasks.base import Case

TOPICS = ("art", "chess", "food", "music", "sport")
CONSUMERS, PRODUCERS, DIM = 900, 400, 8


def planted_case(seed: int = 0, consumers: int = CONSUMERS, producers: int = PRODUCERS) -> Case:
    """Everybody has one topic, and vectors point along it.

    Consumers engage with producers of their topic four times of five, and more often with those in
    front, whose vectors are longer. Their profiles tell the topic, too: a category and a number.
    """
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0][: len(TOPICS)]
    taste = rng.integers(len(TOPICS), size=consumers)
    subject = rng.integers(len(TOPICS), size=producers)
    window = engagements(rng, taste, subject)
    later = engagements(rng, taste, subject)
    lengths = np.arange(1, producers + 1, dtype=np.float32) ** -0.25
    by_topic = sp.csr_matrix(np.eye(len(TOPICS))[subject])
    return Case(
        consumer_ids=np.array([f"c{i:04d}".encode() for i in range(consumers)]),
        consumers=pointing(rng, axes, taste),
        consumer_counts=np.diff(window.indptr),
        producer_ids=np.array([f"p{i:04d}".encode() for i in range(producers)]),
        producers=pointing(rng, axes, subject) * lengths[:, None],
        producer_counts=np.bincount(window.indices, minlength=producers),
        window=window,
        engaged=later,
        elsewhere=np.zeros(consumers, np.int64),
        topics=TOPICS,
        producer_topics=sp.csr_matrix(by_topic * 3),
        consumer_topics=sp.csr_matrix(later @ by_topic),
        profiles={
            "cat_club": np.array(TOPICS)[taste],
            "num_age": taste + rng.normal(size=consumers),
        },
    )


def engagements(rng: np.random.Generator, taste: np.ndarray, subject: np.ndarray) -> sp.csr_matrix:
    """Six draws of every consumer, (n, m); a pair drawn twice counts once."""
    n, m = len(taste), len(subject)
    popularity = 1 / np.arange(1, m + 1)
    rows = np.repeat(np.arange(n), 6)
    columns = np.empty(len(rows), np.int64)
    for place, row in enumerate(rows):
        fits = subject == taste[row]
        weights = popularity * (fits if rng.random() < 0.8 and fits.any() else 1)
        columns[place] = rng.choice(m, p=weights / weights.sum())
    matrix = sp.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(n, m))
    return (matrix > 0).astype(np.float64)


def pointing(rng: np.random.Generator, axes: np.ndarray, topic: np.ndarray) -> np.ndarray:
    """Vectors along the axis of each topic, with noise, (n, DIM) float32."""
    noise = 0.3 * rng.normal(size=(len(topic), DIM))
    return (axes[topic] + noise).astype(np.float32)
