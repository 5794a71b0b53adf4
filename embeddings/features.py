"""What is known of consumers or producers besides their engagements, as rows of numbers.

A vocabulary says what the columns mean: one column for every value of a category, then one for
every number. A row is the same whether it comes from a table or from a single request.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property

import numpy as np
import scipy.sparse as sp

MOST_VALUES = 1000  # of one category that get a column: the most frequent ones
FARTHEST = 4.0  # standard deviations at which a number is cut off
LISTED = 12  # the most names that a message lists

Value = str | float | Mapping[str, float]  # a bag has texts, each with a weight > 0


@dataclass(frozen=True)
class Bags:
    """A list of texts for each of n rows. texts: those of all rows in turn; lengths: (n,)."""

    texts: np.ndarray
    lengths: np.ndarray

    def counted(self) -> list[dict[str, float]]:
        """How often each row has each of its texts, as a request has them."""
        ends = np.cumsum(self.lengths)
        found = []
        for start, end in zip(ends - self.lengths, ends, strict=True):
            texts, counts = np.unique(self.texts[start:end], return_counts=True)
            found.append(dict(zip(texts.tolist(), counts.astype(float).tolist(), strict=True)))
        return found


@dataclass(frozen=True)
class Vocabulary:
    """The columns: those of each category's values, in this order, then those of the numbers.

    categories: name -> values, sorted. numbers: name -> mean and standard deviation of the numbers,
    damped.
    """

    categories: dict[str, tuple[str, ...]]
    numbers: dict[str, tuple[float, float]]

    @property
    def width(self) -> int:
        """The number of columns."""
        return sum(map(len, self.categories.values())) + len(self.numbers)

    def rows(self, columns: Mapping[str, np.ndarray | Bags], n: int) -> sp.csr_matrix:
        """The features of a table's n rows, (n, width) float32.

        columns: by name, texts, numbers or bags of n rows; others are passed over. An empty text,
        a value that has no column, a NaN and a column that is missing leave zeros. A text that is
        several times in a bag counts so often.
        """
        blocks = []
        for name, values in self.categories.items():
            given = columns.get(name)
            known = np.array(values, np.str_)
            if isinstance(given, Bags):
                blocks.append(bag_rows(given, known))
                continue
            texts = np.full(n, "") if given is None else np.asarray(given, np.str_)
            blocks.append(one_hot(texts, known))
        for name, (mean, scale) in self.numbers.items():
            given = columns.get(name)
            numbers = np.full(n, np.nan) if given is None else np.asarray(given, np.float64)
            blocks.append(standardised(numbers, mean, scale))
        if not blocks:
            return sp.csr_matrix((n, 0), dtype=np.float32)
        return sp.hstack(blocks, format="csr", dtype=np.float32)

    def row(self, features: Mapping[str, Value]) -> sp.csr_matrix:
        """The features of one entity, (1, width) float32.

        Raises ValueError for a name or a value that the vocabulary does not have. Of a bag, what
        has no column is passed over: see `unknown`.
        """
        # Not by `rows`, which takes a millisecond: this is done for a request.
        columns, values = [], []
        for name, value in features.items():
            self._check(name, value)
            for text, number in self._entries(name, value):
                columns.append(self._places[name, text])
                values.append(number)
        order = np.argsort(columns)
        data = np.array(values, np.float32)[order]
        places = np.array(columns, np.int32)[order]
        return sp.csr_matrix((data, places, [0, len(places)]), shape=(1, self.width))

    def unknown(self, features: Mapping[str, Value]) -> list[str]:
        """What `row` passes over, as in `domain=17`: the texts of bags that have no column."""
        found = []
        for name, value in features.items():
            if isinstance(value, Mapping):
                found += [f"{name}={text}" for text in value if (name, text) not in self._places]
        return found

    def _entries(self, name: str, value: Value) -> list[tuple[str, float]]:
        """The texts and numbers of a checked value that have a column; '' is that of a number."""
        if isinstance(value, Mapping):
            return [(text, one) for text, one in value.items() if (name, text) in self._places]
        if name in self.numbers:
            return [("", standardised(np.array([value], float), *self.numbers[name]).data[0])]
        return [(str(value), 1.0)]

    @cached_property
    def _places(self) -> dict[tuple[str, str], int]:
        """The column of each value of a category, and of each number with an empty value."""
        names = [(name, value) for name, values in self.categories.items() for value in values]
        names += [(name, "") for name in self.numbers]
        return {pair: column for column, pair in enumerate(names)}

    def has(self, name: str, value: Value) -> bool:
        """Does the value have a column? A NaN has none, nor has a bag as a whole."""
        if isinstance(value, Mapping):
            return False
        if name in self.numbers:
            return not isinstance(value, str) and bool(np.isfinite(value))
        return value in self.categories.get(name, ())

    def _check(self, name: str, value: Value) -> None:
        known = [*self.categories, *self.numbers]
        if name not in known:
            raise ValueError(f"There is no feature {name!r}. {alternatives(name, known)}")
        if name in self.numbers:
            if isinstance(value, str | Mapping) or not np.isfinite(value):
                raise ValueError(f"The feature {name!r} is a finite number; given: {value!r}.")
        elif isinstance(value, Mapping):
            for text, weight in value.items():
                if not 0 < weight < np.inf:
                    raise ValueError(
                        f"The weight of {text!r} in {name!r} is {weight!r}; expected a finite "
                        "number above 0."
                    )
        elif value not in self.categories[name]:
            others = alternatives(str(value), list(self.categories[name]))
            raise ValueError(f"The feature {name!r} has no value {value!r}. {others}")

    def with_number(self, name: str, numbers: np.ndarray) -> Vocabulary:
        """The vocabulary with one more number, of which these are examples, (n,)."""
        return Vocabulary(self.categories, self.numbers | {name: moments(numbers)})

    def text(self) -> str:
        """The vocabulary as JSON; `read` takes it."""
        return json.dumps({"categories": self.categories, "numbers": self.numbers})

    @classmethod
    def read(cls, text: str) -> Vocabulary:
        """The vocabulary whose `text` this is. Raises ValueError if it is none."""
        try:
            found = json.loads(text)
            categories = {name: tuple(values) for name, values in found["categories"].items()}
            numbers = {name: (mean, scale) for name, (mean, scale) in found["numbers"].items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"A vocabulary cannot be read from its text: {error!r}.") from None
        return cls(categories, numbers)


NOTHING = Vocabulary({}, {})


@dataclass(frozen=True)
class Features:
    """Features of some entities. rows: (n, vocabulary.width) float32."""

    vocabulary: Vocabulary
    rows: sp.csr_matrix


def frequent(values: np.ndarray, counts: np.ndarray, least: int) -> tuple[str, ...]:
    """The values of a category that get a column, sorted: the most frequent of those that occur
    at least so often.

    values: (v,) texts; the empty one stands for a missing value. counts: (v,).
    """
    often = (counts >= least) & (values != "")
    values, counts = values[often], counts[often]
    order = np.lexsort((values, -counts))[:MOST_VALUES]
    return tuple(sorted(values[order].tolist()))


def one_hot(texts: np.ndarray, values: np.ndarray) -> sp.csr_matrix:
    """A 1 in the column of each text's value, (n, v) float32. values: (v,), sorted."""
    if not len(values):
        return sp.csr_matrix((len(texts), 0), dtype=np.float32)
    found = np.minimum(np.searchsorted(values, texts), len(values) - 1)
    known = np.flatnonzero(values[found] == texts)
    shape = (len(texts), len(values))
    return sp.csr_matrix((np.ones(len(known), np.float32), (known, found[known])), shape=shape)


def bag_rows(bags: Bags, values: np.ndarray) -> sp.csr_matrix:
    """How often each bag has each value, (n, v) float32. values: (v,), sorted."""
    single = one_hot(bags.texts, values)
    row = np.repeat(np.arange(len(bags.lengths)), bags.lengths)
    ones = np.ones(len(row), np.float32)
    sums = sp.csr_matrix((ones, (row, np.arange(len(row)))), (len(bags.lengths), len(row)))
    return (sums @ single).tocsr()


def damped(numbers: np.ndarray) -> np.ndarray:
    """sign(x) · log(1 + |x|): numbers of profiles have heavy tails."""
    return np.sign(numbers) * np.log1p(np.abs(numbers))


def moments(numbers: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of the damped numbers, without NaN; (0, 1) where none varies."""
    given = damped(numbers[np.isfinite(numbers)])
    scale = float(given.std()) if len(given) else 0.0
    return (float(given.mean()), scale) if scale > 0 else (0.0, 1.0)


def standardised(numbers: np.ndarray, mean: float, scale: float) -> sp.csr_matrix:
    """The damped numbers in standard deviations from the mean, (n, 1) float32.

    One that is missing is not stored: it differs from one that is the mean.
    """
    given = np.flatnonzero(np.isfinite(numbers))
    distance = np.clip((damped(numbers[given]) - mean) / scale, -FARTHEST, FARTHEST)
    places = (given, np.zeros(len(given), np.int64))
    return sp.csr_matrix((distance.astype(np.float32), places), shape=(len(numbers), 1))


def alternatives(name: str, known: list[str]) -> str:
    """What else there is: the closest names, or some of them."""
    if close := get_close_matches(name, known, 1):
        return f"Did you mean {close[0]!r}?"
    if not known:
        return "There are none."
    more = f" and {len(known) - LISTED} more" if len(known) > LISTED else ""
    return f"There are {', '.join(map(repr, known[:LISTED]))}{more}."
