"""The settings file for a log: every setting with its reason, and every guess marked as one."""

from __future__ import annotations

import json
import re
from pathlib import Path

from jobs.intake.content import Column
from jobs.intake.look import FileLook, Finding
from jobs.own_log.roles import DISLIKES, Roles, words_of
from jobs.terminal import visible

FEW_ROWS = 500  # per day; with fewer, days differ by chance
FEW_DAYS = 3  # from which nothing is known about usual days
DIM = 32  # the default of embedding.dim
UNSURE = "# unsure: "


def draft(roles: Roles, path: Path, output: Path, unsure: str = "") -> str:
    """The text of a settings file. path: of the log, and what is unsure about it; output: where
    the file will be.
    """
    where = line("path", shown_path(path, output), "a file, a folder or a glob", unsure)
    sections = [
        f"# The settings of {visible(path.name)}, written by `evergreen init`. Lines marked\n"
        "# 'unsure' are guesses: compare them with your log. What is in every file, and of which\n"
        "# days:\n"
        "#\n"
        f"#   evergreen --settings {visible(output.name)} check\n"
        "#\n"
        "# Relative paths are relative to this file.\n"
        f"home = {in_toml('.evergreen/' + output.stem)}",
        edgelist(roles, where) if roles.is_edgelist else table(roles, where),
        *outcomes(roles),
        validation(roles),
        embedding(roles),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def shown_path(path: Path, output: Path) -> str:
    """Relative where the log is beside or below the settings file."""
    log, folder = path.absolute(), output.absolute().parent
    return str(log.relative_to(folder)) if log.is_relative_to(folder) else str(log)


def in_toml(value: object) -> str:
    """A text or a list as TOML writes it, which JSON does as well."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else in_toml(name)


def line(option: str, value: object, reason: str = "", unsure: str = "") -> str:
    """One setting. reason: at its end; unsure: on a line before it."""
    text = f"{key(option)} = {in_toml(value)}" + (f"  # {visible(reason)}" if reason else "")
    return f"{UNSURE}{visible(unsure)}\n{text}" if unsure else text


def found(option: str, finding: Finding, default: str, reason: str = "") -> list[str]:
    """A setting of how the file is written, where it is not the default."""
    if finding.value == default and finding.sure:
        return []
    return [line(option, finding.value, reason, "" if finding.sure else finding.why)]


def dialect(look: FileLook, separator: str, quotes: bool) -> list[str]:
    if look.format == "parquet":
        return []
    lines = found("separator", look.separator, separator)
    if quotes:
        lines += found("quote", look.quote, '"')
        lines += found("escape", look.escape, "", "before a quote within quotes")
    lines += found("encoding", look.encoding, "utf-8")
    if quotes and look.comments:
        lines.append(line("comments", look.comments, "lines that begin so are skipped"))
    return lines


def times(roles: Roles) -> list[str]:
    """How the time is written."""
    column = roles.time.column
    lines = []
    if column.unit:
        lines.append(line("time_unit", column.unit))
    zone = ""
    if column.unit in ("iso", "") and column.kind == "time" and not column.offset:
        zone = "the times have no offset: name the zone of their clock, such as Europe/Paris"
    lines.append(line("timezone", "UTC", "a day runs from midnight to midnight in it", zone))
    return lines


def edgelist(roles: Roles, where: str) -> str:
    names = {
        roles.time.name: "time",
        roles.consumer.name: "src",
        roles.producer.name: "dst",
    }
    if roles.kind:
        names[roles.kind.name] = "kind"
    if roles.value:
        names[roles.value.name] = "value"
    fields = [names.get(column.name, "skip") for column in roles.look.columns]
    while fields[-1] == "skip":
        fields.pop()
    unsure = [
        choice.why
        for _, choice in roles.chosen()
        if choice.why and choice is not roles.consumer and choice is not roles.producer
    ]
    unsure = ["src is who engaged and dst with whom: no header says so", *unsure]
    lines = [
        "[source]",
        line("kind", "edgelist"),
        where,
        line("fields", fields, "of a line, in their order", "; ".join(unsure)),
        *dialect(roles.look, "whitespace", False),
        *times(roles),
    ]
    if not roles.look.columns[0].whole:  # a text may begin as a comment does
        lines.append(line("comments", roles.look.comments, "lines that begin so are skipped"))
    return "\n".join(lines)


def table(roles: Roles, where: str) -> str:
    lines = [
        "[source]",
        line("kind", "table"),
        where,
        *dialect(roles.look, ",", True),
        *times(roles),
    ]
    if roles.look.header.value == "no":
        lines.append(line("names", roles.look.names, "the file has no header"))
    if roles.labels and roles.spare:
        lines.append(
            f"# context = {in_toml(roles.spare)}\n"
            "# Columns of few values: keep those that are known when an item is shown, and remove "
            "the #."
        )
    lines += ["", '[source.columns]  # ours = "yours"']
    ours = {
        "consumer_id": roles.consumer,
        "producer_id": roles.producer,
        "item_id": roles.item,
        "time": roles.time,
        "kind": roles.kind,
        "value": roles.value,
        "dwell_ms": roles.dwell,
    }
    for name, choice in ours.items():
        if choice is not None:
            lines.append(line(name, choice.name, unsure=choice.why))
    return "\n".join(lines)


def outcomes(roles: Roles) -> list[str]:
    """Labels, and how much an engagement counts."""
    notes = [f"# {visible(note)}" for note in roles.notes]
    if not roles.labels:
        return ["\n".join(notes)] if notes else []
    lines = [*notes, '[source.labels]  # label = "your 0/1 column": every row is an impression']
    for label, choice in roles.labels.items():
        lines.append(line(label, choice.name, unsure=choice.why))
    weights = ["[matrix.weights]  # what one engagement adds to the strength of a pair"]
    for label in roles.labels:
        disliked = bool(set(words_of(label)) & set(DISLIKES))
        reason = "a label of the ranker only" if disliked else ""
        weights.append(line(label, 0.0 if disliked else 1.0, reason))
    sections = ["\n".join(lines), "\n".join(weights)]
    if "click" not in roles.labels:
        first = next(iter(roles.labels))
        text = line("primary_label", first, unsure="the label that decides which ranker is better")
        sections.append("[ranker]\n" + text)
    return sections


def validation(roles: Roles) -> str:
    lines = []
    column = roles.time.column
    if column.step:
        lines.append(
            line(
                "repeats",
                "none",
                f"times are whole {column.step}s, so equal rows are several events",
            )
        )
    reason = unusual_days(column, roles.look)
    if reason:
        lines.append(f"min_rows_share = 0.0  # {reason}")
    return "\n".join(["[validation]", *lines]) if lines else ""


def unusual_days(column: Column, look: FileLook) -> str:
    """Why the rows of a day cannot be compared with those of the days before; "" where they can."""
    if column.kind != "time":
        return "nothing is known of usual days"
    count = (column.last_ms - column.first_ms) // 86_400_000 + 1
    if count < FEW_DAYS:
        return "0.5 refuses a day with half of the usual rows: set it once you know the days"
    if look.rows / count < FEW_ROWS:
        return "with so few rows a day, quiet days do not mean lost data"
    return ""


def embedding(roles: Roles) -> str:
    """Shorter vectors where the sample shows that there are few producers or consumers."""
    smallest = min(roles.consumer.column.distinct, roles.producer.column.distinct)
    if not roles.look.complete or smallest > 2 * DIM:
        return ""
    dim = max(2, smallest // 2)
    what = "consumers" if smallest == roles.consumer.column.distinct else "producers"
    text = f"dim = {min(dim, DIM)}  # instead of {DIM}, because the log has {smallest} {what}"
    return f"[embedding]\n{text}"
