"""Co-occurrence from the matrix to the registry: published, rotated as one, and folded in."""

from __future__ import annotations

import numpy as np
import pytest
from engagement_lake import DAYS, commit_day, engagement_settings, random_day

from embeddings.blocks import load_blocks
from jobs.settings import EmbeddingSettings
from jobs.steps import align, benchmark, consistency, embed, fold_in, lookalike, matrix, publish

STEPS = (matrix, embed, align, fold_in, lookalike, benchmark, publish, consistency)


@pytest.mark.parametrize("pairs", ["baskets", "direct"])
def test_a_day_is_published_and_later_consumers_score_as_fitted_ones(spark, tmp_path, pairs):
    """Histories of the fit, folded in online, have the products that the embedder found."""
    embedding = EmbeddingSettings(
        name="author",
        method="cooccurrence",
        dim=6,
        cooccurrence={"pairs": pairs, "epochs": 3, "batches": 5},
    )
    settings = engagement_settings(tmp_path).model_copy(update={"embedding": embedding})
    commit_day(settings, DAYS[0], random_day(0))
    for step in STEPS:
        step.run(spark, settings, DAYS[0])
    home = {step: settings.lake.get(step, DAYS[0]).path for step in ("matrix", "embed")}
    raw_producers = np.load(home["embed"] / "producers.npy")
    registry = settings.open_registry()
    names = [name.decode() for name in np.load(home["matrix"] / "producers.npy")]
    published = registry.load(registry.version("author", DAYS[0])).entities["producer"]
    producers = published.vectors[published.rows(names)]
    assert not np.allclose(producers, raw_producers)  # a rotation took place
    block = load_blocks(home["matrix"] / "fitted")[0]
    raw = np.load(home["embed"] / "consumers" / "block-00000.npy")
    for row in range(5):
        pairs_of_row = slice(block.indptr[row], block.indptr[row + 1])
        strengths = block.strengths[pairs_of_row]
        engaged = [names[j] for j in block.indices[pairs_of_row]]
        online = registry.fold_in("author", dict(zip(engaged, strengths, strict=True)))
        np.testing.assert_allclose(producers @ online.vector, raw_producers @ raw[row], atol=1e-4)
