"""Which ranker serves on a day, and the calibration that it was promoted with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from jobs.errors import EvergreenError, NotCommitted
from jobs.lake.store import Partition
from jobs.pipeline import chain
from jobs.settings import Settings
from models.calibration import FILE, UNCALIBRATED, Calibration

CHAMPION = "champion"
FIRST_DAYS = "Run the first two days that have impressions: evergreen run --from DAY --to DAY"


@dataclass(frozen=True)
class Serving:
    """A ranker as it serves.

    model: its partition of `train`. promoted: the day of the receipt that names it; None where no
    promotion does, then it has no calibration.
    """

    model: Partition
    calibration: Calibration
    promoted: date | None


def serving_on(settings: Settings, day: date) -> Serving:
    """The ranker that serves on a day: the champion of the newest promotion before it.

    Raises NotCommitted where there is none yet, or its model is missing.
    """
    earlier = list(settings.lake.days_before("promote", day))
    promoted = settings.lake.days("promote")
    if not promoted:
        raise NotCommitted(f"No ranker serves yet. {FIRST_DAYS}")
    if not earlier:
        raise NotCommitted(
            f"No ranker serves on {day}: no day before it has a promotion. The first promotion is "
            f"on {promoted[0]}."
        )
    receipt = settings.lake.get("promote", earlier[-1])
    champion = receipt.facts["champion"]
    if not champion:
        raise NotCommitted(
            f"On {receipt.day} there was no champion yet, because no model had been tested: that "
            f"of the first day is tested on the second. {FIRST_DAYS}"
        )
    model = settings.lake.get("train", date.fromisoformat(champion))
    return Serving(model, calibration_of(receipt), receipt.day)


def chosen(settings: Settings, reference: str) -> Serving:
    """The ranker that a text names: 'champion', that of now, or a day up to which one was trained.

    A ranker that was never promoted is not calibrated. Raises EvergreenError for another text,
    NotCommitted.
    """
    if reference == CHAMPION:
        return serving_on(settings, date.max)
    try:
        day = date.fromisoformat(reference)
    except ValueError:
        raise EvergreenError(
            f"--model {reference} is neither '{CHAMPION}' nor a day such as 2022-04-25."
        ) from None
    model = settings.lake.get("train", day)
    if not chain.has_model(model):
        raise NotCommitted(f"No ranker was trained on {day}. {model.facts['skipped']}")
    for promoted in reversed(settings.lake.days("promote")):
        receipt = settings.lake.find("promote", promoted)
        if receipt is not None and receipt.facts["champion"] == str(day):
            return Serving(model, calibration_of(receipt), promoted)
        if promoted < day:  # a ranker is promoted after the day up to which it was trained
            break
    return Serving(model, UNCALIBRATED, None)


def calibration_of(receipt: Partition) -> Calibration:
    """The calibration in a partition of `promote`; none in one of an older Evergreen."""
    path = receipt.path / FILE
    return Calibration.from_json(path.read_text()) if path.exists() else UNCALIBRATED
