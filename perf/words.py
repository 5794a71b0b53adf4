"""make bench-words: skip-gram on counted pairs beside gensim, on a week of tweets.

Of 300 frequent words, each occurrence is spelt one way or another by chance: is the other spelling
among the 10 nearest of the first? And which words come together in the next week, NDCG@20? Both on
one thread, after a fit of a few sentences that compiles, with the counting of ours timed and the
vocabulary of gensim not. The tweets are the weeks 12 and 13 of those of the Congress, where
EVERGREEN_DATA names their folder, and otherwise those of the simulated world.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
from gensim.models import Word2Vec

from embeddings.kernels.communicator import SingleWorker
from embeddings.spaces.similarity import cosines, unit_rows
from embeddings.words import judging
from embeddings.words.training import WordConfig, WordVectors, fit_words
from jobs.reports.words.learning import MIN_COUNT, WINDOW, Counted, counted, mapped
from jobs.reports.words.texts import CONGRESS, Period, congress_texts, period, simulated_week
from perf.report import Figure, arguments, finish
from simulation.world import World

DIM = 64
WEEK = 12
PLANTED, FREQUENT = 300, 20
OTHER = "~"  # ends the other spelling
NEAR = 10
EPOCHS = (5, 20)  # of gensim


def main() -> int:
    options = arguments(__doc__)
    now, later = weeks()
    texts, planted = with_synonyms(now, options.seed)
    words, near = counted(texts), counted(later)
    fit_words(words.whole[:200, :200], words.ids[:200], words.counts[:200], config(1), ALONE)
    cfg = config(options.seed)
    started = time.process_time()
    ours = fit_words(counted(texts).whole, words.ids, words.counts, cfg, ALONE)
    ours_s = time.process_time() - started
    figures = []
    for epochs in EPOCHS:
        theirs_s, theirs = by_gensim(texts, words, epochs, options.seed)
        peer = f"gensim, {epochs} epochs"
        pairs = ((ours_s, theirs_s), (found(words, ours, planted), found(words, theirs, planted)))
        figures.append(Figure("CPU of the fit", pairs[0][0], "s", peer, pairs[0][1]))
        figures.append(Figure("synonyms among the nearest", pairs[1][0], "", peer, pairs[1][1]))
        predicted = [next_week(words, near, each) for each in (ours, theirs)]
        figures.append(Figure("next week, NDCG@20", predicted[0], "", peer, predicted[1]))
    return finish("words", figures, options.seed)


ALONE = SingleWorker()


def config(seed: int) -> WordConfig:
    return WordConfig(dim=DIM, seed=seed)


def weeks() -> tuple[Period, Period]:
    """A week and the next one."""
    folder = Path(os.environ.get("EVERGREEN_DATA", "")) / CONGRESS
    if not os.environ.get("EVERGREEN_DATA") or not folder.exists():
        world = World(consumers=10)
        return simulated_week(world, 0), simulated_week(world, 1)
    first, second = (period(f"week {w}", congress_texts(folder, w)) for w in (WEEK, WEEK + 1))
    return first, second


def with_synonyms(texts: Period, seed: int) -> tuple[Period, list[str]]:
    """The texts with PLANTED words of at least FREQUENT occurrences spelt in two ways."""
    rng = np.random.default_rng(seed)
    tokens = np.array([word for words in texts.sentences for word in words])
    known, counts = np.unique(tokens, return_counts=True)
    chosen = set(rng.choice(known[counts >= FREQUENT], PLANTED, replace=False).tolist())
    sentences = []
    for words in texts.sentences:
        other = [word in chosen and rng.random() < 0.5 for word in words]
        spelt = [word + OTHER * twice for word, twice in zip(words, other, strict=True)]
        sentences.append(spelt)
    return Period(texts.name, sentences, texts.halves), sorted(chosen)


def by_gensim(texts: Period, words: Counted, epochs: int, seed: int) -> tuple[float, WordVectors]:
    """Seconds of CPU of the training, and the vectors in the order of our words."""
    model = Word2Vec(
        vector_size=DIM, window=WINDOW, min_count=MIN_COUNT, sg=1, workers=1, seed=seed
    )
    model.build_vocab(texts.sentences)
    started = time.process_time()
    model.train(texts.sentences, total_examples=len(texts.sentences), epochs=epochs)
    cpu_s = time.process_time() - started
    rows = [model.wv.key_to_index[word.decode()] for word in words.ids.tolist()]
    nothing = np.ones(len(rows), np.float32)
    return cpu_s, WordVectors(model.wv.vectors[rows], model.syn1neg[rows], nothing, np.zeros(1))


def found(words: Counted, vectors: WordVectors, planted: list[str]) -> float:
    """The share of the planted words with the other spelling among the NEAR nearest."""
    rows = {word.decode(): row for row, word in enumerate(words.ids.tolist())}
    both = [word for word in planted if word in rows and word + OTHER in rows]
    first = np.array([rows[word] for word in both])
    second = np.array([rows[word + OTHER] for word in both])
    near = cosines(unit_rows(vectors.inputs), first)
    own = near[np.arange(len(first)), second]
    return float(np.mean(np.sum(near > own[:, None], axis=1) < NEAR))


def next_week(words: Counted, later: Counted, vectors: WordVectors) -> float:
    """Mean NDCG@20 of the words that come near each one in the next week."""
    near = mapped(later.whole, later.ids, words.ids)
    rows = judging.judged_words(words.ids, near)
    bias = judging.log_noise(words.counts, 0.75)
    return float(judging.predicted(vectors.inputs[rows], vectors.outputs, bias, near[rows]).mean())


if __name__ == "__main__":
    sys.exit(main())
