"""Where an interrupted training goes on: model, optimizers, random states and losses in one file.

All processes of a training have equal models and optimizers, so that the file is written by the
first, and another number of processes can go on from it.
"""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from models import processes

if TYPE_CHECKING:
    from models.training import Trainer


LAYOUT = 2  # of the file
EVERY = 1000  # steps; saving takes as long as one or two of them
# Of the CPU and of a GPU, in the order of `random_state`.
RANDOM_SETTERS = (torch.set_rng_state, torch.cuda.set_rng_state)


@dataclass(frozen=True)
class Checkpoint:
    """A file that is replaced after every EVERY steps.

    identity: of all that shapes the weights. A file of another training counts as none, and so does
    one that cannot be read.
    """

    path: Path
    identity: str

    def due(self, steps: int) -> bool:
        """After so many steps?"""
        return steps % EVERY == 0

    def save(self, trainer: Trainer, losses: np.ndarray) -> None:
        """losses: of the steps so far, (steps, L). All processes call this."""
        states = [processes.gathered(state) for state in random_state()]
        if processes.rank() > 0:
            return
        content = {
            "layout": LAYOUT,
            "identity": self.identity,
            "losses": torch.from_numpy(losses),
            "model": trainer.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in trainer.optimizers],
            "random": states,  # of the CPU, and of the GPU, of every process
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(".draft")
        with draft.open("wb") as stream:
            torch.save(content, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, self.path)

    def restore(self, trainer: Trainer) -> np.ndarray | None:
        """Take the training to where the file was saved. Returns the losses so far.

        None without a file, and the trainer stays as it is.
        """
        content = self._content()
        if content is None:
            return None
        trainer.model.load_state_dict(content["model"])
        for optimizer, state in zip(trainer.optimizers, content["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        for set_state, states in zip(RANDOM_SETTERS, content["random"], strict=False):
            # A process that is new keeps the state that it has been given.
            if processes.rank() < len(states):
                set_state(states[processes.rank()])
        return content["losses"].numpy()

    def _content(self) -> dict[str, Any] | None:
        try:
            # No pickled code: tensors, numbers and texts alone.
            content = torch.load(self.path, map_location="cpu", weights_only=True)
        except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError):
            return None
        fits = content.get("layout") == LAYOUT and content["identity"] == self.identity
        return content if fits else None


def random_state() -> list[torch.Tensor]:
    """Of the CPU, and of the GPU where there is one."""
    states = [torch.get_rng_state()]
    if torch.cuda.is_available():
        states.append(torch.cuda.get_rng_state())
    return states
