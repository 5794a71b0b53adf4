"""What an embedder is. Adding one is adding one file beside this one.

The file's name is the embedder's name. It defines

    Options     its settings, `[embedding.<name>]`: a subclass of `Options` here
    EMBEDDER    an object that satisfies the protocol `Embedder`
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict

from embeddings.facts import Fact

if TYPE_CHECKING:
    from embeddings.blocks import MatrixShare
    from embeddings.fold_in.base import FoldIn

# Files are searched, not imported, so that listing the embedders does not load every solver.
DEFINES_AN_EMBEDDER = re.compile(r"^EMBEDDER\b", re.MULTILINE)

Progress = Callable[[str], None]  # called with one line of text


class Options(BaseModel):
    """Base of an embedder's options. Unknown options are refused.

    A docstring below each field is its description in the settings reference.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


@dataclass(frozen=True)
class Curve:
    """A curve that shows how the fit went. `name` is also the file name of its picture."""

    name: str
    title: str
    xlabel: str
    ylabel: str
    x: list[float]
    y: list[float]
    log_scale: bool = False  # of the y axis
    from_zero: bool = False  # the y axis begins at 0
    target: float | None = None  # the value to reach, drawn as a horizontal line


def loss_curve(losses: list[float]) -> Curve:
    """How the training went: the loss by epoch."""
    return Curve(
        name="convergence",
        title=f"{len(losses)} epochs",
        xlabel="epoch",
        ylabel="negative log-likelihood of a pair",
        x=[float(epoch) for epoch in range(1, len(losses) + 1)],
        y=losses,
    )


@dataclass(frozen=True)
class Fitted:
    """One worker's result of a fit. Directions that the matrix lacks are columns of zeros."""

    consumers: np.ndarray  # (own consumers, k) float32, rows as in the worker's share of the matrix
    producers: np.ndarray  # (n_producers, k) float32, the same on every worker
    fold_in: FoldIn  # embeds consumers that were not fitted; the same on every worker
    facts: dict[str, float | int]  # declared in the embedder's FACTS
    curves: list[Curve] = field(default_factory=list)


class Embedder(Protocol):
    """Learns vectors whose products approximate the consumer-producer matrix."""

    FACTS: ClassVar[tuple[Fact, ...]]
    # An embedder that reads what is known of consumers and producers besides their engagements
    # defines `FEATURES = True`, and finds it in `matrix.consumer_features` and
    # `matrix.producer_features`.

    def fit(
        self, matrix: MatrixShare, dim: int, seed: int, options: Any, progress: Progress
    ) -> Fitted:
        """Fit the whole matrix together with the other workers of `matrix.comm`.

        Called on every worker with its own share and otherwise equal arguments. The vectors may be
        in any coordinates: the step `align` rotates them into the space. The same input, seed and
        number of workers give the same bytes.
        """
        ...


def names() -> list[str]:
    """The names of all embedders, sorted: the files in this folder that define EMBEDDER."""
    found = []
    for file in Path(__file__).parent.glob("*.py"):
        if DEFINES_AN_EMBEDDER.search(file.read_text()):
            found.append(file.stem)
    return sorted(found)


def reads_features(solver: Embedder) -> bool:
    """Does the embedder read features besides the matrix?"""
    return getattr(solver, "FEATURES", False)


def embedder(name: str) -> Embedder:
    """The embedder of that name. Raises ValueError for one that does not exist."""
    if name not in names():
        raise ValueError(f"There is no embedder '{name}'. The embedders are: {', '.join(names())}.")
    return import_module(f"embeddings.embedders.{name}").EMBEDDER
