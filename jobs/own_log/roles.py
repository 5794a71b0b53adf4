"""Which column of a log says who engaged with whom, and when: by names first, then by content."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pyarrow as pa

from jobs.errors import BadInput
from jobs.intake.content import Column, unit_of
from jobs.intake.look import FileLook


def listed(*lines: str) -> list[str]:
    """The words of some lines."""
    return " ".join(lines).split()


# What columns are called, the most telling names first.
CONSUMERS = listed(
    "user consumer customer visitor member viewer listener reader reviewer follower buyer client",
    "subscriber account player student person src source from sender usr who cookie device session",
)
PRODUCERS = listed(
    "producer author creator artist seller publisher channel uploader writer vendor merchant owner",
    "brand shop store followee followed dst target destination to recipient receiver friend",
)
ITEMS = listed(
    "item product movie film video post article song track book tweet photo story content document",
    "news game app recipe question asin sku isbn listing ad hotel business restaurant place venue",
    "page url show object",
)
TIMES = listed("timestamp time ts datetime date unixtime epoch created at when day month year")
VALUES = listed(
    "value rating score stars weight overall strength count cnt plays playcount quantity qty",
    "amount",
)
KINDS = listed(
    "kind type action event eventtype eventname actiontype behavior behaviortype behaviour",
    "interaction interactiontype interactionkind activity activitytype verb reaction engagement",
)
LABELS = listed(
    "click clicked like liked love loved follow followed share shared forward comment commented",
    "hate dislike disliked purchase purchased buy bought order ordered convert converted",
    "conversion view viewed watched finish finished completed save saved favorite favourite",
    "bookmark label reply retweet repost subscribe installed enter engaged played skipped skip",
    "reported hide hidden cart wishlist",
)
DISLIKES = listed("hate dislike disliked skip skipped reported hide hidden")
KEYS = listed("id ids key no nr num number idx index uuid guid code hash")  # part of any id's name
MOST_KINDS = 30
MOST_STRENGTHS = 100  # different ratings or weights; coordinates have more
FEW = 3  # values of what is no producer, such as a sales channel
FEW_ROWS = 20  # of which nothing follows about how many values there are
ID_KINDS = ("id", "category", "label", "time", "text")
# Parts of a date in several columns, which Evergreen does not join.
PARTS = ("year", "month", "day", "hour")


@dataclass(frozen=True)
class Choice:
    """A column for one of ours. why: what is unsure about it; empty where nothing is."""

    column: Column
    why: str = ""

    @property
    def name(self) -> str:
        return self.column.name


@dataclass
class Roles:
    """What the columns of a log are to Evergreen.

    item, kind, value, dwell: None where the log has none. labels: ours -> the log's column.
    notes: what a person should know. spare: 0/1 columns and categories that nothing was made of.
    """

    look: FileLook
    time: Choice
    consumer: Choice
    producer: Choice
    item: Choice | None = None
    kind: Choice | None = None
    value: Choice | None = None
    dwell: Choice | None = None
    labels: dict[str, Choice] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    spare: list[str] = field(default_factory=list)

    @property
    def is_edgelist(self) -> bool:
        """A file without names is a list of edges; one with quotes is read as a table."""
        return self.look.header.value == "no" and not self.look.quoted

    def used(self) -> dict[str, tuple[str, str]]:
        """Name of the log's column -> what it is used as, and what is unsure about that."""
        found: dict[str, tuple[str, str]] = {}
        for ours, choice in self.chosen():
            before = found[choice.name][0] + ", " if choice.name in found else ""
            why = choice.why or found.get(choice.name, ("", ""))[1]
            found[choice.name] = (before + ours, why)
        return found

    def chosen(self) -> list[tuple[str, Choice]]:
        """What each chosen column is used as."""
        single = {
            "consumer": self.consumer,
            "producer": self.producer,
            "item": self.item,
            "time": self.time,
            "kind": self.kind,
            "value": self.value,
            "dwell": self.dwell,
        }
        found = [(ours, choice) for ours, choice in single.items() if choice is not None]
        return found + [(f"label {label}", choice) for label, choice in self.labels.items()]


def words_of(name: str) -> list[str]:
    """The words of a column's name, without those that any id has: userId -> [user]."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    words = re.findall(r"[a-z]+", spaced.lower())
    known = [*CONSUMERS, *PRODUCERS, *ITEMS]
    found = []
    for word in words:
        stem = re.sub(r"ids?$", "", word)
        found.append(stem if stem in known else {"uid": "user"}.get(word, word))
    return [word for word in found if word not in KEYS] or found


def telling(name: str, vocabulary: list[str]) -> float:
    """How much a name says that the column is one of these; 0: nothing."""
    words = words_of(name)
    if not words:
        return 0.0
    rank = {word: place / 100 for place, word in enumerate(vocabulary)}
    if "".join(words) in rank:
        return 3 - rank["".join(words)]
    if words[-1] in rank:  # "click timestamp" is a timestamp
        return 2 - rank[words[-1]]
    return 1 - rank[words[0]] if words[0] in rank else 0.0


def roles_of(look: FileLook) -> Roles:
    """What the columns of a log are. Raises BadInput where a needed one is not there."""
    require_distinct_names(look)
    roles = by_place(look) if look.header.value == "no" else by_name(look)
    used = roles.used()
    about_clocks(roles)
    for column in look.columns:
        small = column.kind in ("label", "category") and not telling(column.name, VALUES)
        if column.name and column.name not in used and small:
            roles.spare.append(column.name)
    return roles


def about_clocks(roles: Roles) -> None:
    """Say so where the clock time of a date is in a column of its own."""
    if roles.time.column.step != "day":
        return
    for column in roles.look.columns:
        if column.is_clock:
            roles.notes.append(
                f"'{column.name}' has the clock times of the dates in '{roles.time.name}', and one "
                "column of times is read: days are right, the order within a day is not."
            )


def may_be_id(column: Column) -> bool:
    return column.kind in ID_KINDS and not column.is_clock


def require_distinct_names(look: FileLook) -> None:
    if not any(look.names):
        raise BadInput(f"{look.path} has a header without names. Name its columns.")


def by_name(look: FileLook) -> Roles:
    """The roles of columns with names."""
    named = [
        column for column in look.columns if column.name and look.names.count(column.name) == 1
    ]
    time = time_of(look, named)
    ids = [column for column in named if column is not time.column and may_be_id(column)]
    consumer = best(ids, CONSUMERS)
    taken = {consumer.name} if consumer else set()
    item = best([column for column in ids if column.name not in taken], ITEMS)
    taken |= {item.name} if item else set()
    makers = [column for column in ids if column.name not in taken]
    if look.rows > FEW_ROWS:
        makers = [column for column in makers if column.distinct > FEW]
    producer = best(makers, PRODUCERS)
    taken |= {producer.name} if producer else set()
    rest = [column for column in ids if column.name not in taken and is_id(column)]
    consumer = consumer or guessed(rest, "consumer")
    producer = producer or item or guessed(rest, "producer")
    if consumer is None or producer is None:
        raise BadInput(
            f"{look.path} has no columns of two ids, of who engaged and with whom. It has: "
            f"{', '.join(look.names)}. Name the columns in a settings file: start from "
            "configs/table.toml."
        )
    roles = Roles(look, time, consumer, producer, item)
    if item is producer:
        roles.producer = Choice(
            item.column, item.why or "the log has no producers, so the item is the producer"
        )
    with_outcomes(roles, [column for column in named if column.name not in roles.used()])
    return roles


def best(columns: list[Column], vocabulary: list[str]) -> Choice | None:
    """The column whose name is the most telling one."""
    scored = [(telling(column.name, vocabulary), column) for column in columns]
    scored = [(score, column) for score, column in scored if score > 0]
    if not scored:
        return None
    top = max(score for score, _ in scored)
    first, *others = [column for score, column in scored if score == top]
    if others:
        return Choice(first, f"'{others[0].name}' may be meant")
    if first.null_like:
        return Choice(
            first, f"'{first.null_like}' is read as an id: if it is none, see source.nulls"
        )
    return Choice(first, "" if top > 1 else "its name says little")


def is_id(column: Column) -> bool:
    return column.kind in ("id", "category") and column.distinct > 1


def guessed(columns: list[Column], what: str) -> Choice | None:
    """The first column that may hold ids; it is taken out of the list."""
    if not columns:
        return None
    return Choice(columns.pop(0), f"the first column that may be a {what}; no name says so")


def time_of(look: FileLook, columns: list[Column]) -> Choice:
    """The column that says when. Raises BadInput for none, and says what the log has instead."""
    times = [column for column in columns if column.kind == "time"]
    # Ids may look like times.
    times = [column for column in times if not is_key(column.name)] or times
    if not times:
        twice = [name for name in look.names if name and look.names.count(name) > 1]
        if twice and telling(twice[0], TIMES):
            raise BadInput(f"{look.path} has several columns '{twice[0]}'. Rename all but one.")
        raise BadInput(f"{look.path} has no column of times that can be read. {instead(columns)}")
    steps = ("", "minute", "hour", "day")
    times.sort(key=lambda column: (steps.index(column.step), -telling(column.name, TIMES)))
    first = times[0]
    equal = [
        column.name
        for column in times[1:]
        if column.step in (first.step, "minute", "hour")
        and int(telling(column.name, TIMES)) >= int(telling(first.name, TIMES))
    ]
    return Choice(first, unsure_of_time(first, equal))


def unsure_of_time(time: Column, others: list[str]) -> str:
    """What is unsure about a column of times. others: columns that are as likely."""
    if others:
        return f"'{others[0]}' may be meant"
    if time.odd:
        return f"values such as {time.odd!r} are not read like the others: their rows go aside"
    return ""


def is_key(name: str) -> bool:
    words = re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower())
    return bool(words) and (words[-1] in KEYS or words[-1].removesuffix("id") in CONSUMERS)


def instead(columns: list[Column]) -> str:
    """What a log without times has in their place, and what to do."""
    odd = [column for column in columns if column.kind == "odd_time"]
    if odd:
        return (
            f"Column '{odd[0].name}' has times such as {odd[0].examples[0]!r}, in a format that is "
            "not read. Write them as ISO texts, such as 2024-03-01 09:30:00, or as seconds since "
            "1970."
        )
    parts = [column.name for column in columns if column.name.lower() in PARTS]
    if len(parts) >= 2:
        return (
            f"It has the parts of a date in the columns {', '.join(parts)}, which Evergreen does "
            "not join. Write one column such as 2024-03-01 to the file."
        )
    named = [column for column in columns if telling(column.name, TIMES) > 1]
    if named:
        name, examples = named[0].name, named[0].examples
        if not examples:
            return f"Column '{name}' is empty, or has nothing that can be read."
        unread = next((text for text in examples if not unit_of(pa.array([text]))), examples[0])
        return (
            f"Column '{name}' has values such as {unread!r}, which are not read as times of "
            "the years 1990 to 2100. Write them as ISO texts, such as 2024-03-01 09:30:00, or as "
            "seconds since 1970."
        )
    shown = ", ".join(column.name for column in columns)
    return (
        "Evergreen works day by day and needs to know when each row happened: as ISO texts, such "
        f"as 2024-03-01 09:30:00, or as s, ms, us or ns since 1970. It has: {shown}."
    )


def with_outcomes(roles: Roles, columns: list[Column]) -> None:
    """Find labels, or else kind and value, among the columns that are left."""
    for column in columns:
        if column.kind == "label" and telling(column.name, LABELS) >= 1:
            label = column.name.removeprefix("is_")
            why = "" if column.distinct > 1 else f"all of them are {column.examples[0]} here"
            roles.labels[label] = Choice(column, why)
    about_unused(roles, columns)
    if roles.labels:
        for column in columns:
            words = words_of(column.name)
            long = {"dwell", "play", "watch", "view", "read"} & set(words)
            if column.whole and words[-1:] == ["ms"] and long and roles.dwell is None:
                roles.dwell = Choice(column)
        return
    kinds = [column for column in columns if "".join(words_of(column.name)) in KINDS]
    kinds = [column for column in kinds if 0 < column.distinct <= MOST_KINDS and not column.numeric]
    if kinds:
        roles.kind = Choice(kinds[0])
    values = [column for column in columns if column.numeric and telling(column.name, VALUES) > 1]
    for column in values[:1]:
        with_value(roles, column)


def about_unused(roles: Roles, columns: list[Column]) -> None:
    """Say so where a column is called like a label or a value, and does not hold any."""
    for column in columns:
        shown = ", ".join(column.examples)
        if column.kind in ("label", "empty", "time"):
            continue
        if telling(column.name, LABELS) >= 2 and column.distinct == 2:
            roles.notes.append(f"'{column.name}' has {shown} instead of 0 and 1: it is no label.")
        elif telling(column.name, VALUES) >= 2 and not column.numeric:
            roles.notes.append(
                f"'{column.name}' has texts such as {shown}, which are no numbers: it is not used, "
                "and every row counts 1."
            )


def with_value(roles: Roles, column: Column, why: str = "") -> None:
    """Use a column of values, unless validation would put its rows aside."""
    if column.low < 0:
        roles.notes.append(
            f"'{column.name}' has numbers below 0, and a negative value is put aside: "
            "it is not used, and every row counts 1."
        )
        return
    roles.value = Choice(column, why)
    if column.low == 0:
        roles.notes.append(f"'{column.name}' is 0 in some rows: these add nothing to a pair.")


def by_place(look: FileLook) -> Roles:
    """The roles of columns without names: consumer, producer, and what follows, by content."""
    columns = list(look.columns)
    time = time_by_place(look, columns)
    ids = [column for column in columns if column is not time.column and may_be_id(column)]
    several = [column for column in ids if column.distinct > 1]
    ids = several if len(several) >= 2 else ids
    if len(ids) < 2:
        raise BadInput(
            f"{look.path} has no two fields of ids beside its times. Expected lines such as "
            "'src dst time'; name the columns in a settings file: start from configs/table.toml."
        )
    why = "no header says so; it is the {} field"
    roles = Roles(
        look, time, Choice(ids[0], why.format("first")), Choice(ids[1], why.format("second"))
    )
    rest = [column for column in columns if column not in (time.column, ids[0], ids[1])]
    for column in [column for column in rest if not column.is_clock]:
        few = 0 < column.distinct <= MOST_STRENGTHS
        strength = column.kind in ("category", "number") and column.numeric and few
        if strength and column.low != 0 and roles.value is None:
            with_value(roles, column, "numbers that may be ratings or weights")
        elif not column.numeric and 0 < column.distinct <= MOST_KINDS and roles.kind is None:
            roles.kind = Choice(column)
    return roles


def time_by_place(look: FileLook, columns: list[Column]) -> Choice:
    times = [column for column in columns if column.kind == "time"]
    later = [column for column in times if column not in columns[:2]]
    times = later or times
    if times:
        grows = [column for column in times if column.grows]
        first = (grows or times)[0]
        other = next((column for column in times if column is not first), None)
        also = f"field {other.name} looks like times too" if other else ""
        return Choice(first, also or unsure_of_time(first, []))
    if any(column.kind == "odd_time" for column in columns):
        raise BadInput(f"{look.path} has no field of times that can be read. {instead(columns)}")
    counters = [
        column for column in columns[2:] if column.whole and column.grows and column.distinct > 1
    ]
    if not counters:
        raise BadInput(f"{look.path} has no field of times that can be read. {instead(columns)}")
    return Choice(
        counters[0],
        "its numbers grow, and are no times since 1990: read as seconds, so days begin in 1970",
    )
