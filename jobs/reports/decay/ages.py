"""Which days a decay curve tests, and what had been learned by then at every age.

Age 0 is what the loop serves: it has learned everything up to the day before the tested one. What
is of age a has missed the a days after that: the loop last ran a days ago.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import date, timedelta

from jobs.errors import EvergreenError

OLDEST = 9  # days
TESTS = 3  # tested days that are preferred to a higher age


class TooFewDays(EvergreenError):
    """A range of days in which nothing can grow old."""


@dataclass(frozen=True)
class Plan:
    """The same tested days for every age from 0 to `oldest`.

    days: those that can be learned from and tested, ascending. tests: positions of the tested ones.
    """

    days: list[date]
    tests: list[int]
    oldest: int

    @property
    def ages(self) -> range:
        return range(self.oldest + 1)

    def learned(self, test: int, age: int) -> int:
        """Position of the newest day that is known at this age on a tested day.

        Over a gap it is an older day, as in the loop: nothing newer had been published.
        """
        newest = self.days[test] - timedelta(days=1 + age)
        return bisect_right(self.days, newest) - 1

    def all_learned(self) -> list[int]:
        """The positions of all ages and tested days, ascending."""
        found = set()
        for test in self.tests:
            found |= {self.learned(test, age) for age in self.ages}
        return sorted(found)


def plan_of(days: list[date], what: str) -> Plan:
    """The highest age, up to OLDEST, that TESTS days can test; with fewer days, a lower one.

    what: of the days, for the error. Raises TooFewDays where nothing can be a day old.
    """
    for wanted in (TESTS, 2, 1):
        for oldest in range(OLDEST, 0, -1):
            tests = tested(days, oldest)
            if len(tests) >= wanted:
                return Plan(days, tests, oldest)
    raise TooFewDays(
        f"There are too few days with {what} ({len(days)}): one to learn from, one to miss and one "
        "to test are needed, in this order. Widen --from and --to."
    )


def tested(days: list[date], oldest: int) -> list[int]:
    """Positions of the days before which something of this age had a day to learn from."""
    found = []
    for position, day in enumerate(days):
        if days[0] <= day - timedelta(days=1 + oldest):
            found.append(position)
    return found


def matrix_cells(n: int) -> list[tuple[int, int]]:
    """All pairs of a learned and a later tested position among n days."""
    cells = []
    for test in range(1, n):
        cells += [(last, test) for last in range(test)]
    return cells
