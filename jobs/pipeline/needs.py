"""What a step needs: partitions that it cannot do without, and others that it can.

A step's `needs` names the partitions that it reads, one after the other. What it can do without it
names as `optional`, and a generator is answered whether it is there:

    yield ("examples", day)
    if (yield optional("gate", earlier)):
        ...  # gate/earlier can be read now

What it reads where it is there, and does not have computed for it, it names as `if_there`.

So one day's trouble does not stop the days after it: they are computed without what it lacks.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from datetime import date
from typing import TypeVar

Need = tuple[str, date]  # step and day of a partition
Answer = TypeVar("Answer")
# Needs that are answered; what they return is for the generator that has them in `yield from`.
Needs = Generator[Need, bool | None, Answer]


class Optional(tuple[str, date]):
    """A need that the step can do without; equal to the one that it cannot do without."""


class IfThere(Optional):
    """An optional need that is not computed where it is missing."""


class Undecided(Exception):
    """Whether a need is there cannot be said before it is judged, or computed."""

    def __init__(self, need: Need) -> None:
        super().__init__(f"{need[0]}/{need[1]}")
        self.need = need


def optional(step: str, day: date) -> Need:
    """For `needs`: a partition that the step can do without."""
    return Optional((step, day))


def if_there(step: str, day: date) -> Need:
    """For `needs`: a partition that the step reads where it is there.

    It must be an input of an earlier need, directly or by way of others: it is then missing only
    where it could not be computed or has been deleted, whatever the order of the days.
    """
    return IfThere((step, day))


def is_computed(need: Need) -> bool:
    """Is a need computed where it is missing?"""
    return not isinstance(need, IfThere)


def is_optional(need: Need) -> bool:
    return isinstance(need, Optional)


def available(needs: Iterable[Need], there: Callable[[Need], bool]) -> Iterator[Need]:
    """The needs that are there, in order.

    there: is this one there? It is asked about each one when it is named, and its answer decides
    which others are named. What it raises ends the walk.
    """
    naming = answered(needs)
    try:
        need = next(naming)
        while True:
            found = there(need)
            if found:
                yield need
            # Only to the optional ones, so that `yield from` a list of the others is possible.
            need = naming.send(found if is_optional(need) else None)
    except StopIteration:
        return


def answered(needs: Iterable[Need]) -> Needs[None]:
    """The needs as a generator, to which answers can be sent; a list has no use for them."""
    if isinstance(needs, Generator):
        yield from needs
    else:
        # Not `yield from`, which would send the answers to the list.
        for need in needs:  # noqa: UP028
            yield need
