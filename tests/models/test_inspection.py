"""Masks: every figure is that of the network with the mask written out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_spec import SPEC
from torch import nn

from models.features import Batch, FeatureSpec
from models.inspection import groups_of, has_masks, masks_of
from models.rankers.base import build, kinds, read_options

GROUPS = ("item", "profile", "numbers", "consumer vector", "producer vector", "their product")


def masknet(spec: FeatureSpec = SPEC, **options):
    torch.manual_seed(1)
    model = build("masknet", spec, read_options("masknet", options)).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def batch(n: int = 5) -> Batch:
    rng = np.random.default_rng(0)
    return Batch(
        categories=np.stack([rng.integers(0, c.buckets, n) for c in SPEC.categorical], axis=1),
        numbers=rng.normal(size=(n, 2)).astype(np.float32),
        vectors=rng.normal(size=(n, 2, 3)).astype(np.float32),
        labels=np.zeros((n, 2), np.float32),
    )


def inputs(rows: Batch) -> list[torch.Tensor]:
    return [torch.from_numpy(array) for array in (rows.categories, rows.numbers, rows.vectors)]


@pytest.mark.parametrize("structure", ["parallel", "serial"])
def test_an_effect_is_what_the_mask_of_the_field_changes(structure, monkeypatch):
    """Against the network itself, with the mask of one group replaced by ones."""
    model = masknet(structure=structure)
    rows = batch()
    found = masks_of(model, rows)
    assert found.names == GROUPS
    with torch.inference_mode():
        whole = model(*inputs(rows))
        np.testing.assert_allclose(found.logits, whole.numpy(), atol=1e-6)
        own = model.stages[0].masks
        groups = [*groups_of(SPEC, model.fields).values(), list(range(model.fields.count))]
        changes = []
        for places in groups:

            def without(e_BE: torch.Tensor, places: list[int] = places) -> torch.Tensor:
                masks = own(e_BE).unflatten(2, (model.fields.count, model.fields.width)).clone()
                masks[:, :, places] = 1
                return masks.flatten(2)

            monkeypatch.setattr(model.stages[0], "masks", without)
            changes.append((whole - model(*inputs(rows))).numpy())
    np.testing.assert_allclose(found.effects, np.stack(changes[:-1], axis=1), atol=1e-5)
    np.testing.assert_allclose(found.logits - found.control, changes[-1], atol=1e-5)
    assert np.abs(found.effects).min() > 1e-6  # each of them does something


def test_the_layer_is_gated_by_the_mask_and_its_control_is_not():
    model = masknet()
    rows = batch()
    found = masks_of(model, rows)
    with torch.inference_mode():
        fields = model.fields(*inputs(rows))
        masks = model.field_masks(fields).numpy()
        normed = model.norms(fields).numpy()
    for block in range(3):
        np.testing.assert_array_equal(found.unmasked_layer[block], normed)
    np.testing.assert_allclose(found.layer, masks * found.unmasked_layer, atol=1e-6)


def test_only_a_ranker_with_masks_has_some():
    assert [kind for kind in kinds() if has_masks(small(kind))] == ["masknet"]
    assert not has_masks(masknet(mask=False))


def small(kind: str):
    raw = {"heavy_ranker": {"aggregation": 8, "block_width": 8, "hidden": 8, "tower": (8, 4)}}
    return build(kind, SPEC, read_options(kind, raw.get(kind, {})))


@pytest.mark.parametrize("lacking", [{"numeric": ()}, {"vector_dim": 0}])
def test_a_ranker_without_numbers_or_vectors_has_no_such_groups(lacking):
    spec = replace(SPEC, **lacking)
    gone = {"numbers"} if "numeric" in lacking else set(GROUPS[3:])
    groups = groups_of(spec, masknet(spec).fields)
    assert set(groups) == set(GROUPS) - gone
    fields = [place for places in groups.values() for place in places]
    assert fields == list(range(masknet(spec).fields.count))
