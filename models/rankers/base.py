"""The seam of the rankers: what a ranker is, and how one is found by its kind.

A ranker is one file in this folder. It defines

    Options     its settings: a subclass of `RankerOptions`, every option with a default
    RANKER      its class: an `nn.Module` that satisfies the protocol `Ranker`

and its kind is the name of the file: `masknet.py` is the kind "masknet". Nothing else has to be
registered. This module imports neither torch nor pyarrow, so that the settings can list the kinds
in milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from models import rankers

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from models.features import FeatureSpec

DEFINES_A_RANKER = re.compile(r"^RANKER\b", re.MULTILINE)


class RankerError(ValueError):
    """A kind, an option or a feature spec from which no ranker can be built."""


class RankerOptions(BaseModel):
    """Base of every ranker's `Options`: frozen, and an unknown option is an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


@dataclass(frozen=True)
class Statistics:
    """Statistics of the training rows. N numeric columns, L labels."""

    mean_N: np.ndarray  # (N,) float64, over the known values
    std_N: np.ndarray  # (N,) float64; infinite for a constant column, which then standardises to 0
    log_mean_N: np.ndarray  # (N,) float64, as mean_N, of sign(x)·log(1 + |x|)
    log_std_N: np.ndarray  # (N,) float64, as std_N, of the same; 0 for a constant column
    log_odds_L: np.ndarray  # (L,) float64, log(positives / negatives)


class Ranker(Protocol):
    """A network that maps features and vectors to one logit per label.

    Built as `RANKER(spec, options)`. B rows, C categorical and N numeric columns, V vector length,
    L labels, as in `models.features.Batch`. Two rankers that are built, initialised and called in
    the same way from the same random state have equal weights, to the bit.
    """

    spec: FeatureSpec
    options: Any  # an instance of the `Options` of its file

    def __init__(self, spec: FeatureSpec, options: Any) -> None: ...

    def initialise(self, statistics: Statistics) -> None:
        """Take over what is known before training: scales of the numbers, rates of the labels."""
        ...

    def __call__(
        self, categories_BC: Tensor, numbers_BN: Tensor, vectors_B2V: Tensor
    ) -> Tensor:  # (B, L) logits
        ...

    # The part of `nn.Module` that training, storage and serving use.

    def parameters(self) -> Iterator[torch.nn.Parameter]: ...

    def modules(self) -> Iterator[torch.nn.Module]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any: ...

    def to(self, device: torch.device) -> Any: ...

    def eval(self) -> Any: ...


def kinds() -> list[str]:
    """The kinds of rankers, sorted. Reads the source of the files and imports none of them."""
    found = []
    for module in iter_modules(rankers.__path__):
        spec = find_spec(f"{rankers.__name__}.{module.name}")
        if spec is None or spec.origin is None:
            continue
        if DEFINES_A_RANKER.search(Path(spec.origin).read_text()):
            found.append(module.name)
    return sorted(found)


def ranker_class(kind: str) -> type[Ranker]:
    """The class of a kind. Raises RankerError for an unknown kind."""
    return _module(kind).RANKER


def read_options(kind: str, raw: Mapping[str, Any]) -> RankerOptions:
    """The options of a kind, validated. raw: option -> value; an option left out has its default.

    Raises RankerError for an unknown kind, an unknown option or an invalid value.
    """
    options = _module(kind).Options
    try:
        return options(**raw)
    except ValidationError as error:
        faults = []
        for fault in error.errors():
            name = ".".join(map(str, fault["loc"]))
            faults.append(f"{name}: {fault['msg']} (given: {fault['input']!r})")
        known = ", ".join(options.model_fields)
        raise RankerError(
            f"Invalid options of the ranker '{kind}': {'; '.join(faults)}. "
            f"Its options are: {known}."
        ) from None


def build(kind: str, spec: FeatureSpec, options: RankerOptions) -> Ranker:
    """A ranker of that kind with fresh weights, drawn from torch's current random state.

    Raises RankerError for an unknown kind, and for a spec without labels or categories.
    """
    if not spec.labels:
        raise RankerError(
            f"The ranker '{kind}' needs at least one label to learn, and the features have none. "
            "Use a source whose impressions have label_* columns."
        )
    if not spec.categorical:
        raise RankerError(
            f"The ranker '{kind}' needs at least one categorical feature, and there is none."
        )
    if spec.vector_dim < 0:
        raise RankerError(
            f"The ranker '{kind}' reads published vectors, and their length is {spec.vector_dim}. "
            "Use the dim of the embedding, or 0 for features without vectors."
        )
    return ranker_class(kind)(spec, options)


def kind_of(ranker: Ranker) -> str:
    """The kind of a ranker: the name of the file whose RANKER is its class."""
    kind = type(ranker).__module__.rpartition(".")[2]
    if kind not in kinds() or ranker_class(kind) is not type(ranker):
        raise RankerError(
            f"{type(ranker).__qualname__} has no kind: it is not the RANKER of the file that "
            f"defines it ({type(ranker).__module__})."
        )
    return kind


def _module(kind: str) -> ModuleType:
    known = kinds()
    if kind not in known:
        near = get_close_matches(kind, known, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise RankerError(
            f"There is no ranker '{kind}'.{hint} The kinds are: {', '.join(known)}. "
            "To add one, add a file to models/rankers/ that defines Options and RANKER."
        )
    return import_module(f"{rankers.__name__}.{kind}")
