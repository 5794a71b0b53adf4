"""Where an interrupted training goes on: model, optimizers, random states and losses.

All processes of a training have equal models and optimizers, except for tables of embeddings, which
may be sharded. The first process writes what is equal to one file. Tables and their moments are in
parts beside it, one for each process that has a share of them. Another number of processes can go
on from these files, with tables sharded or whole.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from models import processes
from models.sharded_table import is_sharded, resharded, tables

if TYPE_CHECKING:
    from models.training import Trainer


LAYOUT = 3  # of the files
EVERY = 1000  # steps; saving takes as long as one or two of them
# Of the CPU and of a GPU, in the order of `random_state`.
RANDOM_SETTERS = (torch.set_rng_state, torch.cuda.set_rng_state)


@dataclass(frozen=True)
class Checkpoint:
    """A file and its parts, which are replaced after every EVERY steps.

    identity: of all that shapes the weights. Files of another training count as none, and so do
    those of which one is missing or cannot be read.
    """

    path: Path
    identity: str

    def due(self, steps: int) -> bool:
        """After so many steps?"""
        return steps % EVERY == 0

    def save(self, trainer: Trainer, losses: np.ndarray) -> None:
        """losses: of the steps so far, (steps, L). All processes call this."""
        steps = len(losses)
        share, shares = share_of_tables(trainer)
        weights = trainer.model.state_dict()
        names = [f"{name}.weight" for name in tables(trainer.model)]
        common, *by_row = trainer.optimizers
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if share == processes.rank():  # of whole tables, the first process writes the only part
            part = {
                "weights": {name: weights.pop(name) for name in names},
                "optimizers": [optimizer.state_dict() for optimizer in by_row],
            }
            self._write(self._part(steps, share, shares), steps, part)
        # A process takes part in this after it has written, so that no part is named too early.
        states = [processes.gathered(state) for state in random_state()]
        if processes.rank() > 0:
            return
        content = {
            "losses": torch.from_numpy(losses),
            "parts": shares,
            "model": weights,
            "optimizer": common.state_dict(),
            "random": states,  # of the CPU, and of the GPU, of every process
        }
        self._write(self.path, steps, content)
        self._sweep({self._part(steps, number, shares) for number in range(shares)})

    def restore(self, trainer: Trainer) -> np.ndarray | None:
        """Take the training to where the files were saved. Returns the losses so far.

        None without them, and the trainer stays as it is.
        """
        content = self._read(self.path)
        parts = self._parts(content)
        if content is None or parts is None:
            return None
        share, shares = share_of_tables(trainer)
        weights = content["model"]
        for name in parts[0]["weights"]:
            weights[name] = resharded([part["weights"][name] for part in parts], share, shares)
        trainer.model.load_state_dict(weights)
        common, *by_row = trainer.optimizers
        common.load_state_dict(content["optimizer"])
        for number, optimizer in enumerate(by_row):
            states = [part["optimizers"][number] for part in parts]
            optimizer.load_state_dict(resharded_state(states, share, shares))
        for set_state, random in zip(RANDOM_SETTERS, content["random"], strict=False):
            # A process that is new keeps the state that it has been given.
            if processes.rank() < len(random):
                set_state(random[processes.rank()])
        return content["losses"].numpy()

    def _part(self, steps: int, share: int, shares: int) -> Path:
        return self.path.with_suffix(f".{steps}.{share}-of-{shares}.part")

    def _sweep(self, kept: set[Path]) -> None:
        """Delete all other parts."""
        for part in self.path.parent.glob(f"{self.path.stem}.*.part"):
            if part not in kept:
                part.unlink()

    def _write(self, path: Path, steps: int, content: Mapping[str, Any]) -> None:
        """Replace a file, whole or not at all."""
        known = {"layout": LAYOUT, "identity": self.identity, "steps": steps}
        draft = path.with_name(f"{path.name}.draft")
        with draft.open("wb") as stream:
            torch.save({**known, **content}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, path)

    def _parts(self, content: dict[str, Any] | None) -> list[dict[str, Any]] | None:
        """All parts of the tables: every process opens all, so that they agree on what is there."""
        if content is None:
            return None
        steps, shares = content["steps"], content["parts"]
        found = []
        for share in range(shares):
            # Mapped: a process needs no more than its rows of each.
            part = self._read(self._part(steps, share, shares), mapped=True)
            if part is None or part["steps"] != steps:
                return None
            found.append(part)
        return found

    def _read(self, path: Path, mapped: bool = False) -> dict[str, Any] | None:
        try:
            # No pickled code: tensors, numbers and texts alone.
            content = torch.load(path, map_location="cpu", mmap=mapped, weights_only=True)
        except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError):
            return None
        fits = content.get("layout") == LAYOUT and content["identity"] == self.identity
        return content if fits else None


def share_of_tables(trainer: Trainer) -> tuple[int, int]:
    """Which share of the tables' rows this process has, and of how many."""
    if is_sharded(trainer.model):
        return processes.rank(), processes.size()
    return 0, 1


def resharded_state(parts: list[dict[str, Any]], share: int, shares: int) -> dict[str, Any]:
    """The state of a share's optimizer, from those of all parts. Its tensors have a row for each
    row of a table; all else is the same in all parts."""
    state = {}
    for number, first in parts[0]["state"].items():
        state[number] = dict(first)
        for name, value in first.items():
            if torch.is_tensor(value):
                rows = [part["state"][number][name] for part in parts]
                state[number][name] = resharded(rows, share, shares)
    return {**parts[0], "state": state}


def random_state() -> list[torch.Tensor]:
    """Of the CPU, and of the GPU where there is one."""
    states = [torch.get_rng_state()]
    if torch.cuda.is_available():
        states.append(torch.cuda.get_rng_state())
    return states
