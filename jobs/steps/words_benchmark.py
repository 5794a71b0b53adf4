"""words_benchmark: judge the week's vectors, and those of the week before on this week's texts.

results.json    as of the step `benchmark`; a version is named by the Sunday of its week

    words_co_occurrence     which words come near each word a week later? NDCG@20; beside it how
                            frequent words are, what came near it in the week of the vectors, and
                            random vectors
    words_synonyms          share of all words that are less near to a word than its planted
                            synonym; words_topics: share of the 10 nearest with its topic. Both in
                            a simulated world only, in which they are known
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

from embeddings.benchmarks.results import Result
from embeddings.facts import Fact
from embeddings.sampling import noise
from embeddings.words import judging
from jobs.lake.store import Partition
from jobs.pipeline.needs import Need, optional
from jobs.pipeline.plan import reads, recording
from jobs.settings import Settings
from jobs.steps.benchmark import DIGITS, RESULTS, interval_of, records_of, write_results
from jobs.words.reading import simulated_source
from jobs.words.stored import read_pairs
from jobs.words.weeks import WEEK, earlier_week, words_of
from jobs.words.world import synonyms_of, topics_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SETTINGS = ("source", "words")
FORMAT = 1
SPARK = False
LEARNED = "words_train"  # the step whose vectors are judged
FACTS = (
    Fact(
        "words_co_occurrence_ndcg20",
        "NDCG@20 of the words near each one, by the vectors of the week before",
        better="higher",
        headline=True,
    ),
    Fact(
        "words_synonyms_nearer",
        "share of words that are less near to a word than its synonym",
        "share",
        better="higher",
        headline=True,
    ),
    Fact(
        "words_topics_purity10",
        "share of a word's 10 nearest that have its topic",
        "share",
        better="higher",
        headline=True,
    ),
    Fact("<task>_<metric>_low", "lower end of its 95 % interval"),
    Fact("<task>_<metric>_high", "upper end of its 95 % interval"),
    Fact("<task>_<metric>_by_<baseline>", "the same by a baseline"),
)


def needs(settings: Settings, day: date) -> list[Need]:
    """The week's pairs and vectors, and those of the week before."""
    wanted: list[Need] = [(LEARNED, day), ("words_pairs", day)]
    for before in earlier_week(settings, day, 1):
        wanted += [optional(LEARNED, before), optional("words_pairs", before)]
    return wanted


def run(spark: SparkSession | None, settings: Settings, day: date) -> None:
    """Judge by what is known, and record the results of both weeks."""
    read = reads(settings, "words_benchmark", day)
    results: dict[date, list[Result]] = {day: []}
    with (
        recording(settings, "words_benchmark", day, read.values()) as staging,
        threadpool_limits(1),  # or the last bits would depend on the number of threads
    ):
        if words_of(settings).texts == "simulated":
            results[day] = of_the_world(settings, read[LEARNED, day], day)
        before = day - WEEK
        if (LEARNED, before) in read and ("words_pairs", before) in read:
            pairs = read["words_pairs", day], read["words_pairs", before]
            exponent = words_of(settings).negative_exponent
            results[before] = next_week(read[LEARNED, before], *pairs, exponent, day)
        for result in [*results[day], *results.get(before, [])]:
            staging.facts |= interval_of(result.name, result)
            for baseline, value in result.baselines.items():
                staging.facts[f"{result.name}_by_{baseline}"] = round(value, DIGITS)
        write_results(staging.path / RESULTS, records_of(results))


def of_the_world(settings: Settings, learned: Partition, day: date) -> list[Result]:
    """What the simulated world knows of the words of the week."""
    source = simulated_source(settings)
    number = (day - source.first_day).days
    ids = np.load(learned.path / "words.npy")
    vectors = np.load(learned.path / "whole" / "inputs.npy")
    tokens = [word.decode() for word in ids.tolist()]
    drawn = noise(ids, vectors.shape[1])
    found = []
    twins = synonyms_of(tokens)
    if len(twins):
        shares, random = (judging.nearer_than_others(each, twins) for each in (vectors, drawn))
        found.append(judging.result("words_synonyms", "nearer", day, shares, {"random": random}))
    topics = topics_of(source.world(), tokens, number)
    known = topics >= 0
    if np.count_nonzero(known) > judging.NEAREST:
        own, random = (
            judging.topic_purity(each[known], topics[known]) for each in (vectors, drawn)
        )
        found.append(judging.result("words_topics", "purity10", day, own, {"random": random}))
    return found


def next_week(
    learned: Partition, later: Partition, own: Partition, exponent: float, day: date
) -> list[Result]:
    """Do the vectors of a week say which words come together in the next one?

    learned, own: vectors and pairs of the week; later: pairs of the next one. exponent: of the
    negatives that the vectors were learned with.
    """
    ids = np.load(learned.path / "words.npy")
    counts = np.load(learned.path / "counts.npy")
    near = others_only(read_pairs(later.path, ids))
    rows = judging.judged_words(ids, near)
    if not len(rows):
        return []
    inputs, outputs = (
        np.load(learned.path / "whole" / f"{name}.npy") for name in ("inputs", "outputs")
    )
    width = inputs.shape[1]
    frequency = np.log(np.maximum(counts, 1.0))
    bias = judging.log_noise(counts, exponent)
    wanted = near[rows]
    seen = others_only(read_pairs(own.path, ids))[rows]
    found = judging.predicted(inputs[rows], outputs, bias, wanted)
    nothing = np.zeros((len(rows), 1), np.float32), np.zeros((len(ids), 1), np.float32)
    random = noise(ids, width)
    baselines = {
        "frequency": judging.predicted(*nothing, frequency, wanted),
        "same_week": judging.by_counts(seen, frequency, wanted),
        "random": judging.predicted(random[rows], random, np.zeros(len(ids)), wanted),
    }
    return [judging.result("words_co_occurrence", "ndcg20", day, found, baselines)]


def others_only(halves: list[sp.csr_matrix]) -> sp.csr_matrix:
    """The pairs of both halves without those of a word with itself."""
    whole = sum(halves).tolil()
    whole.setdiag(0)
    found = whole.tocsr()
    found.eliminate_zeros()
    return found
