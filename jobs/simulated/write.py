"""`evergreen simulate`: the days of a simulated world as Parquet files, for any other tool.

impressions/DAY.parquet   the impressions and their outcomes
truth/DAY.parquet         the probability of every outcome, in the same order of rows
consumers/, items/        profiles and items, as they are on the day
texts/                    the words of the items posted on the day
signups/, visits/, contacts/   who signed up, their web visits before, their address books
emails/, labels/          campaigns with clicks; topics of the top producers by people
follows.parquet           who followed whom on the first day
world.json                the world
evergreen.toml            settings that read the impressions as a log of one's own
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import Progress as Bar

from jobs.errors import EvergreenError
from jobs.simulated import tables
from jobs.simulated.tables import named, one_of
from simulation import emails, labels, signups
from simulation.engagements import KINDS, Impressions, blocks, impressions_of, places_of
from simulation.graph import follows
from simulation.items import posts
from simulation.people import consumers, producers
from simulation.text import texts
from simulation.world import VERSION, World

SETTINGS = "evergreen.toml"
PREFIXES = ("label_", "ctx_", "cat_", "num_", "bag_")  # of our columns; the files have plain names
Progress = Callable[[], None]


def simulate(world: World, first: date, days: int, folder: Path) -> str:
    """Write the days, with a bar on a terminal. Returns what was written, in words."""
    console = Console(stderr=True)
    started = time.perf_counter()
    with Bar(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("Simulating", total=days * blocks(world))
        written = write(world, first, days, folder, lambda: bar.advance(task))
    seconds = time.perf_counter() - started
    counted = "1 day" if days == 1 else f"{days} days"
    return (
        f"{written.impressions:,} impressions on {counted}, {written.bytes / 2**20:.0f} MiB in "
        f"{folder}, {seconds:.1f} s.\n"
        f"To run them: evergreen --settings {folder / SETTINGS} run --from {first} "
        f"--to {first + timedelta(days=days - 1)}"
    )


@dataclass
class Written:
    """What `write` has written."""

    impressions: int = 0
    bytes: int = 0


def write(world: World, first: date, days: int, folder: Path, progress: Progress) -> Written:
    """Write the days, and whatever other days the folder has of the same world stay.

    progress: called after each of `days * blocks(world)` parts. Raises EvergreenError for a folder
    with another world or with something else.
    """
    claim(folder, world, first)
    written = Written()
    for number in range(days):
        day = first + timedelta(days=number)
        written.impressions += write_impressions(world, number, day, folder, progress)
        for name, table in small_tables(world, number, day):
            save(folder / name / f"{day}.parquet", [table])
    save(folder / "follows.parquet", edges(world))
    (folder / SETTINGS).write_text(settings_text())
    written.bytes = sum(file.stat().st_size for file in folder.rglob("*.parquet"))
    return written


def claim(folder: Path, world: World, first: date) -> None:
    """Mark a new folder as that of this world."""
    mark = folder / "world.json"
    described = {"version": VERSION, "first_day": str(first), **asdict(world)}
    text = json.dumps(described, indent=1) + "\n"
    if mark.exists():
        if mark.read_text() != text:
            raise EvergreenError(
                f"{folder} has another world: {mark} differs. Choose another --out, or delete it."
            )
        return
    if folder.exists() and any(folder.iterdir()):
        raise EvergreenError(
            f"{folder} is not empty and has no world.json. Choose a new folder for --out."
        )
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(text)


def write_impressions(
    world: World, number: int, day: date, folder: Path, progress: Progress
) -> int:
    """The impressions and their truth, block by block. Returns the number of rows."""
    n = 0
    shown_file = folder / "impressions" / f"{day}.parquet"
    truth_file = folder / "truth" / f"{day}.parquet"
    with writing(shown_file) as shown, writing(truth_file) as truth:
        for block in range(blocks(world)):
            rows = impressions_of(world, number, block)
            shown(plain(tables.shown(world, rows, midnight_ms(day))))
            truth(probabilities(rows))
            n += len(rows)
            progress()
    return n


def probabilities(rows: Impressions) -> pa.Table:
    columns = {}
    for number, kind in enumerate(KINDS):
        columns[kind] = pa.array(rows.probabilities[:, number])
    return pa.table(columns)


def small_tables(world: World, number: int, day: date) -> Iterator[tuple[str, pa.Table]]:
    """Every other table of a day, with its name."""
    midnight = midnight_ms(day)
    parts = [tables.profiles(world, number, block, midnight) for block in range(blocks(world))]
    yield "consumers", plain(pa.concat_tables(parts))
    yield "items", plain(tables.items(world, number, 0, midnight))
    yield "texts", texts_table(world, number)
    new = signups.signups(world, number)
    ids = named("c", new.crowd.ids)
    yield (
        "signups",
        pa.table(
            {
                "consumer_id": ids,
                "region": named("r", new.regions),
                "device": one_of(signups.DEVICES, new.devices),
                "interest": named("t", new.interests),
            }
        ),
    )
    visits = {"consumer_id": ids.take(pa.array(new.visits[:, 0]))}
    yield "visits", pa.table(visits | {"domain": named("d", new.visits[:, 1])})
    books = {"consumer_id": ids.take(pa.array(new.contacts[:, 0]))}
    yield "contacts", pa.table(books | {"contact_id": named("c", new.contacts[:, 1])})
    yield "emails", emails_table(world, number)
    labelled = labels.labels(world, number)
    topics = named("t", labelled.topics)
    yield "labels", pa.table({"producer_id": named("p", labelled.ids), "topic": topics})


def texts_table(world: World, number: int) -> pa.Table:
    posted = posts(world, number)
    authors = producers(world, number).ids[posted.places]
    return pa.table(
        {
            "item_id": named("i", posted.ids),
            "producer_id": named("p", authors),
            "text": pa.array(texts(world, number).written(), pa.string()),
        }
    )


def emails_table(world: World, number: int) -> pa.Table:
    sent = emails.emails(world, number)
    return pa.table(
        {
            "campaign": pa.array(sent.campaigns),
            "topic": named("t", sent.topics),
            "consumer_id": named("c", sent.consumers),
            "clicked": pa.array(sent.clicked.astype(np.int32)),
            "probability": pa.array(sent.probabilities),
        }
    )


def edges(world: World) -> Iterator[pa.Table]:
    """Who follows whom on day 0, block by block."""
    ids = producers(world, 0).ids
    for block in range(blocks(world)):
        crowd = consumers(world, 0, places_of(world, block))
        rows, places = follows(world, crowd)
        yield pa.table(
            {"consumer_id": named("c", crowd.ids[rows]), "producer_id": named("p", ids[places])}
        )


def plain(table: pa.Table) -> pa.Table:
    """The columns without the prefixes that say what Evergreen does with them."""
    names = []
    for name in table.column_names:
        prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), "")
        names.append(name.removeprefix(prefix))
    return table.rename_columns(names)


def settings_text() -> str:
    """Settings for the written impressions."""
    labels_text = "\n".join(f'{kind} = "{kind}"' for kind in KINDS)
    return f"""# Reads the impressions of this folder; see docs/data-contract.md.
home = ".evergreen"

[source]
kind = "table"
path = "impressions"
time_unit = "ms"
context = ["surface", "device"]

[source.columns]
consumer_id = "consumer_id"
producer_id = "producer_id"
item_id = "item_id"
time = "time_ms"
dwell_ms = "dwell_ms"

[source.labels]
{labels_text}
"""


def save(file: Path, parts: Iterator[pa.Table] | list[pa.Table]) -> None:
    with writing(file) as add:
        for part in parts:
            add(part)


@contextmanager
def writing(file: Path) -> Iterator[Callable[[pa.Table], None]]:
    """Write a Parquet file part by part; it appears when it is complete."""
    file.parent.mkdir(exist_ok=True)
    unfinished = file.with_name(f".{file.name}.part")
    writer: pq.ParquetWriter | None = None

    def add(part: pa.Table) -> None:
        nonlocal writer
        writer = writer or pq.ParquetWriter(unfinished, part.schema)
        writer.write_table(part)

    try:
        yield add
    finally:
        if writer:
            writer.close()
    os.replace(unfinished, file)


def midnight_ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000
