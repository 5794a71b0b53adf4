"""Which committed partitions are current, and why the others are not.

A partition is current when it is what its step would compute now: it has the recipe of now (its
settings and the format of its code), the inputs that the step names now, with the digests that are
committed now, and these inputs are current themselves. A landed day has files of the log instead.

What a step can do without is named by its needs only where it is current. So a result that had to
do without it is current for as long as it is missing, and no longer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date

from jobs.errors import DamagedPartition, NotCommitted
from jobs.lake.integrity import damage
from jobs.lake.store import Lake, Partition
from jobs.pipeline.needs import Need, Undecided, available, is_optional

DAMAGED = "damaged"  # how the reason begins


@dataclass(frozen=True)
class Verdict:
    """partition: the committed one, if any. why: the reason why it is not current; empty if it is.

    because: the input at which the reason was found, "step/day"; empty where it is the partition.
    """

    partition: Partition | None
    why: str = ""
    because: str = ""

    @property
    def current(self) -> bool:
        return self.partition is not None and not self.why


@dataclass(frozen=True)
class Plan:
    """What a step would do now, as functions of the step, or of the step and the day.

    recipe: settings and format of the code; None for a step that does not exist. needs: the
    partitions that it would read, see `jobs.pipeline.needs`. contradiction: what the log says
    against a landed day. beside: what else the step commits, by name.
    """

    recipe: Callable[[str], str | None]
    needs: Callable[[str, date], Iterable[Need]]
    contradiction: Callable[[Partition], str]
    beside: Callable[[str], tuple[str, ...]] = lambda step: ()


class Freshness:
    """Judges partitions and remembers the verdicts: one look at the lake, for one question."""

    def __init__(self, lake: Lake, plan: Plan) -> None:
        self.lake = lake
        self.plan = plan
        self._verdicts: dict[Need, Verdict] = {}
        self._recipes: dict[str, str | None] = {}

    def current(self, step: str, day: date) -> Partition | None:
        """The committed partition if it is current and its files are whole, else None."""
        verdict = self.judge(step, day)
        return verdict.partition if verdict.current else None

    def judge(self, step: str, day: date) -> Verdict:
        """Whether a partition is current and whole, or the reason why not."""
        verdict = self._judge(step, day)
        # Its own files only: nobody is going to read those of its inputs.
        if verdict.current and (why := self._harm(step, day)):
            return Verdict(verdict.partition, why)
        return verdict

    def _harm(self, step: str, day: date) -> str:
        """What is damaged or missing of all that a step commits on a day."""
        for committed in (step, *self.plan.beside(step)):
            found = self.lake.find(committed, day)
            if found is None:
                return f"its {committed} is missing"
            if faults := damage(found):
                return f"{DAMAGED}: {', '.join(faults)}"
        return ""

    def _judge(self, step: str, day: date) -> Verdict:
        """Judge a partition after its inputs.

        Without recursion: the alignments of consecutive days form a chain as long as the log.
        """
        waiting = [(step, day)]
        while waiting:
            top = waiting[-1]
            if top in self._verdicts:
                waiting.pop()
                continue
            found = self.lake.find(*top)
            why = self._own_fault(found, *top)
            if found is None or why:
                self._verdicts[top] = Verdict(found, why)
                continue
            inputs = [pair(key) for key in found.inputs]
            unjudged = [needed for needed in inputs if needed not in self._verdicts]
            if unjudged:
                waiting += unjudged
                continue
            try:
                self._verdicts[top] = self._by_inputs(found)
            except Undecided as first:
                waiting.append(first.need)
        return self._verdicts[step, day]

    def _own_fault(self, found: Partition | None, step: str, day: date) -> str:
        """What is wrong with a partition before any of its inputs is judged."""
        if found is None:
            return "missing"
        recipe = self._recipe(step)
        if recipe is None:
            return "there is no such step any more"
        if found.recipe != recipe:
            same_settings = found.recipe.partition("/")[0] == recipe.partition("/")[0]
            return "the code has changed" if same_settings else "its settings have changed"
        return self.plan.contradiction(found)

    def _by_inputs(self, found: Partition) -> Verdict:
        """The verdict on a partition whose inputs have been judged.

        Raises Undecided for a need that is to be judged before.
        """
        for key, digest in found.inputs.items():
            verdict = self._verdicts[pair(key)]
            # Old partitions may be deleted: that contradicts nothing that was computed from them.
            if verdict.partition is None:
                continue
            if verdict.why:
                return Verdict(found, verdict.why, verdict.because or key)
            if verdict.partition.digest != digest:
                return Verdict(found, "was computed again, with another result", key)
        try:
            needed = self._needed(found)
        except (NotCommitted, DamagedPartition):
            # What would name them is deleted or damaged, and contradicts nothing either.
            return Verdict(found)
        if added := needed - found.inputs.keys():
            return Verdict(found, f"it did not read {', '.join(sorted(added))}")
        if dropped := found.inputs.keys() - needed:
            return Verdict(found, f"it read {', '.join(sorted(dropped))}")
        return Verdict(found)

    def _needed(self, found: Partition) -> set[str]:
        """The keys of what the step would read now."""

        def there(need: Need) -> bool:
            if not is_optional(need):
                return True
            if key_of(need) in found.inputs:
                return True  # by now it is known to be current, or deleted
            if need not in self._verdicts:
                raise Undecided(need)
            # Its files count as well, because they would be read now.
            return self._verdicts[need].current and not self._harm(*need)

        needs = self.plan.needs(found.step, found.day)
        return {key_of(need) for need in available(needs, there)}

    def _recipe(self, step: str) -> str | None:
        if step not in self._recipes:
            self._recipes[step] = self.plan.recipe(step)
        return self._recipes[step]


def key_of(need: Need) -> str:
    """The key of a step and day, such as land/2024-03-01."""
    step, day = need
    return f"{step}/{day}"


def pair(key: str) -> Need:
    """The step and day of a key such as land/2024-03-01."""
    step, _, day = key.partition("/")
    return step, date.fromisoformat(day)
