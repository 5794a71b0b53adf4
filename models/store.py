"""A trained model on disk: safetensors for the weights, JSON for everything else. No pickle."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from models.features import FeatureSpec
from models.rankers.base import Ranker, RankerOptions, build, kind_of, read_options

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"


@dataclass(frozen=True)
class Description:
    """Everything about a saved model but its weights."""

    kind: str  # of the ranker, see models.rankers.base
    options: RankerOptions
    spec: FeatureSpec
    space: str  # that its vectors must come from; '' for any


@dataclass(frozen=True)
class Saved:
    """A model ready to score, and the space that its vectors must come from ('' for any)."""

    model: Ranker
    space: str


def save(home: Path, model: Ranker, space: str) -> None:
    """Write model.safetensors and model.json below `home`. The same model gives the same bytes."""
    home.mkdir(parents=True, exist_ok=True)
    content = {
        "kind": kind_of(model),
        "options": model.options.model_dump(mode="json"),
        "spec": json.loads(model.spec.to_json()),
        "space": space,
    }
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, home / WEIGHTS)
    (home / DESCRIPTION).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def describe(home: Path) -> Description:
    """Read the description that `save` wrote.

    Raises RankerError where the kind or one of its options no longer exists.
    """
    content = json.loads((home / DESCRIPTION).read_text())
    return Description(
        kind=content["kind"],
        options=read_options(content["kind"], content["options"]),
        spec=FeatureSpec.from_json(json.dumps(content["spec"])),
        space=content["space"],
    )


def load(home: Path) -> Saved:
    """Read the model that `save` wrote. Raises RankerError as `describe` does."""
    saved = describe(home)
    # Building draws weights, which are overwritten; the caller's random state stays as it was.
    with torch.random.fork_rng():
        model = build(saved.kind, saved.spec, saved.options)
    model.load_state_dict(load_file(home / WEIGHTS))
    return Saved(model.eval(), saved.space)
