"""A trained model on disk: safetensors for the weights, JSON for everything else. No pickle."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from models.features import FeatureSpec
from models.rankers.masknet import MaskNet, MaskNetConfig

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"


@dataclass(frozen=True)
class Saved:
    """A model ready to score, and the space its vectors must come from ('' for any)."""

    model: MaskNet
    space: str


def save(home: Path, model: MaskNet, space: str) -> None:
    """Write model.safetensors and model.json below `home`: the same model is the same bytes."""
    home.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()}, home / WEIGHTS
    )
    content = {"spec": json.loads(model.spec.to_json()), "net": asdict(model.cfg), "space": space}
    (home / DESCRIPTION).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def load(home: Path) -> Saved:
    """Read what `save` wrote."""
    content = json.loads((home / DESCRIPTION).read_text())
    net = content["net"] | {"hidden": tuple(content["net"]["hidden"])}
    with (
        torch.random.fork_rng()
    ):  # the fresh weights are overwritten: they must not cost the caller its random state
        model = MaskNet(FeatureSpec.from_json(json.dumps(content["spec"])), MaskNetConfig(**net))
    model.load_state_dict(load_file(home / WEIGHTS))
    return Saved(model.eval(), content["space"])
