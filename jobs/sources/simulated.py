"""A simulated world, in which the truth is known: see `simulation.world`.

Nothing is stored. A day is a function of the settings, and Spark's workers compute a part of it
each.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError, field_validator, model_validator

from embeddings.durable import replace_text
from jobs.errors import BadInput, SettingsError
from jobs.lake.schema import CONSUMER_TABLE, IMPRESSION_TABLE, ITEM_TABLE
from jobs.sources.base import SourceSettings
from jobs.sources.days import midnight_ms

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

    from simulation.world import World

TABLES = (IMPRESSION_TABLE, CONSUMER_TABLE, ITEM_TABLE)
RECIPE = "simulated.json"  # in the folder of what was read of logs


class SimulatedSettings(SourceSettings):
    """A simulated world, in which the truth is known."""

    shapeless = frozenset({"path", "days"})

    path: Path = Path(".")
    """Not read: the days are computed."""

    seed: int = Field(default=0, ge=0, lt=2**32)
    """Other seeds are other worlds."""

    first_day: date = date(2024, 1, 1)
    """Day 0 of the world."""

    days: int = Field(default=14, ge=1, le=36_600)
    """How many days the log has."""

    consumers: int = Field(default=100_000, ge=1, le=10**9)
    """How many consumers there are on any day."""

    producers: int = Field(default=2_000, ge=1, le=10**7)
    """How many producers there are on any day."""

    topics: int = Field(default=16, ge=2, le=256, multiple_of=2)
    """Topics that consumers like and producers write about."""

    impressions: float = Field(default=0.3, gt=0, le=10_000)
    """Items shown to a consumer on a day: the mean, since few are shown many."""

    drift: float = Field(default=1.0, ge=0, le=10)
    """How fast everything drifts, as a multiple of the usual rates. 0: the still world, in which
    only items come and go."""

    new_items: bool = True
    """Are items posted every day, and shown for three? Otherwise those of day 0 always are."""

    dials: dict[str, float] = Field(default={})
    """Rates of some kinds of drift per day, instead of the usual ones: `topics`, `tastes`,
    `subjects`, `consumers`, `producers`, `words`, `meanings`."""

    shocks: list[date] = Field(default=[])
    """Days on which all tastes, subjects and popular topics turn."""

    @field_validator("dials")
    @classmethod
    def _dials_are_known(cls, dials: dict[str, float]) -> dict[str, float]:
        from simulation.drift import rates

        if unknown := sorted(dials.keys() - set(rates())):
            raise ValueError(f"there is no dial {unknown}; expected some of {rates()}")
        return dials

    @model_validator(mode="after")
    def _rates_are_possible(self) -> SimulatedSettings:
        self.world()
        return self

    def world(self) -> World:
        """The world that the settings describe. Raises ValueError for a rate that cannot be."""
        from dataclasses import replace

        from simulation.drift import Drift
        from simulation.world import World

        shocks = tuple(sorted((day - self.first_day).days for day in self.shocks))
        pace = Drift().scaled(self.drift)
        drift = replace(pace, **self.dials, shocks=shocks, new_items=self.new_items)
        return World(
            consumers=self.consumers,
            producers=self.producers,
            topics=self.topics,
            impressions=self.impressions,
            seed=self.seed,
            drift=drift,
        )

    @property
    def last_day(self) -> date:
        return self.first_day + timedelta(days=self.days - 1)


def checked(**options: Any) -> SimulatedSettings:
    """Settings of these options. Raises SettingsError, which names an impossible one."""
    from jobs.plugins import faults

    try:
        return SimulatedSettings(kind="simulated", **options)
    except ValidationError as error:
        raise SettingsError(f"There is no such world: {faults(error)}.") from None


class Simulated:
    Settings = SimulatedSettings
    timezone = "UTC"
    slack_h = 0.0

    def __init__(self, settings: SimulatedSettings, memory: Path) -> None:
        self.settings = settings
        self.memory = memory

    def span(self) -> tuple[date, date]:
        return self.settings.first_day, self.settings.last_day

    def tables(self, day: date) -> tuple[str, ...]:
        return TABLES if self._has(day) else ()

    def files(self, day: date) -> list[Path]:
        """The recipe of all days: another world, or another version of the code, is another log."""
        if not self._has(day):
            return []
        from simulation.world import VERSION

        file = self.memory / RECIPE
        settings = self.settings.model_dump(mode="json", exclude=set(self.settings.shapeless))
        recipe = json.dumps({"version": VERSION} | settings, indent=1)
        if not file.exists() or file.read_text() != recipe:
            self.memory.mkdir(parents=True, exist_ok=True)
            replace_text(file, recipe)
        return [file]

    def absent(self, table: str) -> frozenset[str]:
        return frozenset()

    def table(self, spark: SparkSession, table: str, day: date) -> DataFrame:
        from jobs.simulated import tables

        if not self._has(day):
            first, last = self.span()
            raise BadInput(f"{day} is not in the simulated log, which runs from {first} to {last}.")
        world = self.settings.world()
        declared = []
        for number, field in enumerate(tables.schema(world, table)):
            # A text that a task declares has a collation under Connect: see jobs.features.lookups.
            declared.append((f"_{number}", field.name, SPARK_TYPES[str(field.type)]))
        task = computing(world, table, self.number(day), midnight_ms(day, self.timezone))
        rows = spark.range(tables.parts(world, table)).mapInArrow(
            task, ", ".join(f"{column} {kind}" for column, _, kind in declared)
        )
        selected = []
        for column, name, kind in declared:
            text = kind.replace("binary", "string")
            value = column if text == kind else f"cast({column} as {text})"
            selected.append(f"{value} `{name}`")
        return rows.selectExpr(*selected)

    def notes(self, day: date) -> dict[str, int | str]:
        from simulation.engagements import rows_of

        return {"log_rows": rows_of(self.settings.world(), self.number(day))}

    def number(self, day: date) -> int:
        """The number of a day: 0 is the first one."""
        return (day - self.settings.first_day).days

    def _has(self, day: date) -> bool:
        first, last = self.span()
        return first <= day <= last


SPARK_TYPES = {
    "string": "binary",
    "double": "double",
    "int64": "bigint",
    "int32": "int",
    "list<item: string>": "array<binary>",
}
Batches = Iterator["pa.RecordBatch"]


def computing(world: World, table: str, day: int, midnight: int) -> Callable[[Batches], Batches]:
    """What a worker does: numbers of blocks in, the rows of these blocks out, columns by number."""

    def run(batches: Iterator[Any]) -> Iterator[Any]:
        import pyarrow as pa

        from jobs.simulated.tables import TABLES as makers

        as_bytes = {pa.string(): pa.binary(), pa.list_(pa.string()): pa.list_(pa.binary())}

        for batch in batches:
            for block in batch.column(0).to_pylist():
                made = makers[table](world, day, block, midnight)
                columns = []
                for column in made.columns:
                    columns.append(column.cast(as_bytes.get(column.type, column.type)))
                numbered = pa.table(columns, names=[f"_{n}" for n in range(len(columns))])
                yield from numbered.to_batches()

    return run


SOURCE = Simulated
