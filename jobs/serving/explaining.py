"""Why an item ranks where it does: what the masks of the ranker add to the odds of a label."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.errors import EvergreenError
from jobs.serving.ranking import PREFIX
from jobs.serving.recommending import Answer, Recommender
from models.inspection import has_masks, masks_of


@dataclass(frozen=True)
class Why:
    """One recommended item, in log odds of the calibrated probability of one label.

    whole: with all masks. control: without any mask in the first blocks. effects: what the mask of
    each group of fields adds; since masks act together, these do not sum up to the difference.
    """

    item: str
    whole: float
    control: float
    effects: dict[str, float]


def explain(recommender: Recommender, answer: Answer, label: str = "") -> list[Why]:
    """The reasons for all items of an answer, in their order; none of a ranker without masks.

    label: without "label_"; by default the one with the largest weight. Raises EvergreenError for
    an unknown label.
    """
    model = recommender.saved.model
    labels = [name.removeprefix(PREFIX) for name in model.spec.labels]
    label = label or recommender.main_label
    if label not in labels:
        raise EvergreenError(f"There is no label '{label}'. There are: {', '.join(labels)}.")
    if not has_masks(model) or not answer.items:
        return []
    (batch,) = answer.inputs.batches(len(answer.inputs))
    found = masks_of(model, batch)
    column = labels.index(label)
    calibrated = recommender.serving.calibration.map(model.spec.labels[column])
    reasons = []
    for place, item in enumerate(answer.items):
        effects = (calibrated.scale * found.effects[place, :, column]).tolist()
        reasons.append(
            Why(
                item=item.item,
                whole=float(calibrated.scale * found.logits[place, column] + calibrated.shift),
                control=float(calibrated.scale * found.control[place, column] + calibrated.shift),
                effects=dict(zip(found.names, effects, strict=True)),
            )
        )
    return reasons
