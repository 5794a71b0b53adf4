"""The networks of the studies, each as what it changes of the network of a trial.

Source: Wang, She, Zhang 2021, arXiv:2102.07619: ablation (Table 3), embedding size, number of
blocks and reduction ratio, for the serial and the parallel network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jobs.errors import EvergreenError

KIND = "masknet"
STRUCTURES = ("parallel", "serial")
BASE = "as set"  # the network of the trial
MASKS = "masks"  # the study of what the masks of the base do
# Study -> name of a network -> the options that it changes.
STUDIES: dict[str, dict[str, dict[str, Any]]] = {
    "ablation": {
        "no mask": {"mask": False},
        "no layer norm": {"layer_norm": False},
        "no feed-forward": {"feed_forward": False},
    },
    "size": {str(size): {"field_width": size} for size in (4, 8, 16, 32)},
    "blocks": {str(count): {"blocks": count} for count in (1, 2, 3, 5, 7)},
    "ratio": {str(ratio): {"ratio": float(ratio)} for ratio in (1, 2, 3, 4, 5)},
}


@dataclass(frozen=True)
class Variant:
    """A network of one study. changes: of the options of the trial."""

    study: str
    name: str
    structure: str
    changes: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """Its name among all networks."""
        parts = [self.structure, self.study, self.name]
        return " ".join(part for part in parts if part)


def base(structure: str) -> Variant:
    return Variant("", BASE, structure, {"structure": structure})


def variants(studies: list[str], structures: list[str]) -> list[Variant]:
    """The network as set and those of the studies, for every structure.

    studies, structures: of those above, none for all. Raises EvergreenError for an unknown one.
    """
    for chosen, known in ((studies, [*STUDIES, MASKS]), (structures, [*STRUCTURES])):
        if unknown := sorted(set(chosen) - set(known)):
            raise EvergreenError(
                f"There is no {', '.join(unknown)}. Choose of: {', '.join(known)}."
            )
    found = []
    for structure in structures or STRUCTURES:
        found.append(base(structure))
        for study, networks in STUDIES.items():
            if studies and study not in studies:
                continue
            for name, changes in networks.items():
                found.append(Variant(study, name, structure, {"structure": structure} | changes))
    return found
