"""`evergreen init`: the settings that are written for logs as they are published and exported."""

from __future__ import annotations

import gzip
import tomllib
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from jobs.cli import app
from jobs.settings import load_settings

START_S = 1_709_252_930  # 2024-03-01 00:28:50
ROWS = 120


def lines_of(form: str, header: str = "") -> str:
    """A line per row. {u}, {p}, {i}: ids of consumer, producer, item; {s}: seconds; {d}: a date."""
    lines = [header] if header else []
    for n in range(ROWS):
        day = f"2024-03-{1 + n // 40:02}"
        values = {"u": n % 23, "p": n % 7, "i": n % 31, "s": START_S + 2000 * n, "d": day}
        lines.append(form.format(**values, r=n % 5 + 1, k=("RT", "MT", "RE")[n % 3], c=n % 2))
    return "\n".join(lines) + "\n"


def started(path: Path, *options: str) -> tuple[str, dict]:
    """What `init` prints, and the settings that it has written, which load."""
    output = path.parent / "my.toml"
    result = CliRunner().invoke(app, ["init", str(path), "--output", str(output), *options])
    assert result.exit_code == 0, result.output
    load_settings(output)
    return result.output, tomllib.loads(output.read_text())


def written(tmp_path, text: str, name: str = "log.csv") -> Path:
    file = tmp_path / name
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("form", "header", "columns"),
    [
        ("{u},{p},{s}", "user,author,time",
         {"consumer_id": "user", "producer_id": "author", "time": "time"}),
        ("{u},{i},{r},{s}", "userId,movieId,rating,timestamp",
         {"consumer_id": "userId", "producer_id": "movieId", "item_id": "movieId",
          "time": "timestamp", "value": "rating"}),
        ("{s},{i},{p},{u},{k}", "created_at,post_id,creator_id,customer_id,event_type",
         {"consumer_id": "customer_id", "producer_id": "creator_id", "item_id": "post_id",
          "time": "created_at", "kind": "event_type"}),
        ("{u}::{i}::{s}", "visitorid::itemid::ts",
         {"consumer_id": "visitorid", "producer_id": "itemid", "item_id": "itemid", "time": "ts"}),
        ("{u};{i};{r};{s}", "reviewerID;asin;overall;unixReviewTime",
         {"consumer_id": "reviewerID", "producer_id": "asin", "item_id": "asin",
          "time": "unixReviewTime", "value": "overall"}),
        # The finer of two times; a session's id that looks like a time is none.
        ("{u},{s}1234,{d},{p},{s}000", "uid,session_id,date,artist,time_ms",
         {"consumer_id": "uid", "producer_id": "artist", "time": "time_ms"}),
        # A sales channel is no producer.
        ("{d},{u},{i},{c}", "t_dat,customer_id,article_id,sales_channel_id",
         {"consumer_id": "customer_id", "producer_id": "article_id", "item_id": "article_id",
          "time": "t_dat"}),
        ("{p} {u} {s}", "dst src time",
         {"consumer_id": "src", "producer_id": "dst", "time": "time"}),
    ],
)  # fmt: skip
def test_columns_are_chosen_by_their_names(tmp_path, form, header, columns):
    _, settings = started(written(tmp_path, lines_of(form, header)))
    assert settings["source"]["kind"] == "table"
    assert settings["source"]["columns"] == columns


@pytest.mark.parametrize(
    ("form", "fields", "separator"),
    [
        ("{u} {p} {s} {k}", ["src", "dst", "time", "kind"], None),  # Higgs Twitter
        ("{u} {p} {s}", ["src", "dst", "time"], None),  # SNAP
        ("{u} {p} {r} {s}", ["src", "dst", "value", "time"], None),  # KONECT
        ("{u},{p},{r},{s}", ["src", "dst", "value", "time"], ","),  # Bitcoin OTC
        ("{u}::{i}::{r}::{s}", ["src", "dst", "value", "time"], "::"),  # MovieLens
        ("{u}\t{i}\t{r}\t{s}", ["src", "dst", "value", "time"], "\t"),  # MovieLens 100K
        ("{s},{u},{p}", ["time", "src", "dst"], ","),
        ("{d} 10:3{r}:00 INFO u{u} p{p}", ["time", "skip", "kind", "src", "dst"], None),
        ("{u},{d}T10:51:09Z,2145{i},0", ["src", "time", "dst"], ","),  # YooChoose: 0 is no strength
        ("{u}\t{d}T23:55:27Z\t30.{s}\t-97.{s}\t{i}", ["src", "time", "skip", "skip", "dst"], "\t"),
    ],
)
def test_files_without_a_header_are_lists_of_edges(tmp_path, form, fields, separator):
    shown, settings = started(written(tmp_path, "% a comment\n" + lines_of(form), "out.log"))
    assert settings["source"]["kind"] == "edgelist"
    assert settings["source"]["fields"] == fields
    assert settings["source"].get("separator") == separator
    assert "unsure: no header says so" in " ".join(shown.split())


def test_a_file_without_a_header_and_with_quotes_is_a_table(tmp_path):
    """A list of edges has no quotes: they would be a part of the ids."""
    shown, settings = started(written(tmp_path, lines_of('"{u}","{p}","{s}"')))
    assert settings["source"]["names"] == ["1", "2", "3"]
    assert settings["source"]["columns"]["time"] == "3"
    assert "put aside" not in shown


def test_texts_that_begin_as_comments_do_are_kept(tmp_path):
    text = lines_of("#tag{u} {p} {s}")
    _, settings = started(written(tmp_path, text))
    assert settings["source"]["comments"] == ""


def test_values_below_zero_are_left_out_and_named(tmp_path):
    """Trust from -10 to 10: a negative strength would be put aside, row by row."""
    shown, settings = started(
        written(tmp_path, lines_of("{u},{p},-{r},{s}", "user,author,rating,time"))
    )
    assert "value" not in settings["source"]["columns"]
    assert "'rating' has numbers below 0" in shown
    assert "'rating' has numbers below 0" in (tmp_path / "my.toml").read_text()


def test_clock_times_in_a_column_of_their_own_are_named(tmp_path):
    text = lines_of("{u},{p},{d},10:3{r}:00", "user,author,date,clock")
    shown, settings = started(written(tmp_path, text))
    assert settings["source"]["columns"]["time"] == "date"
    assert "'clock' has the clock times of the dates in 'date'" in " ".join(shown.split())


def test_labels_make_impressions(tmp_path):
    """One of them decides about promotion; what is disliked adds nothing to a pair."""
    header = "user_id,author_id,video_id,ts,is_like,is_hate,play_time_ms,tab"
    text = lines_of("{u},{p},{i},{s},{c},{c},{s},{k}", header)
    _, settings = started(written(tmp_path, text))
    assert settings["source"]["labels"] == {"like": "is_like", "hate": "is_hate"}
    assert settings["source"]["columns"]["dwell_ms"] == "play_time_ms"
    assert settings["matrix"]["weights"] == {"like": 1.0, "hate": 0.0}
    assert settings["ranker"]["primary_label"] == "like"


@pytest.mark.parametrize(
    ("form", "header", "table", "expected"),
    [
        ("{u},{p},{d}", "user,author,day", "validation", {"repeats": "none"}),
        ("{u},{p},{d} 10:00", "user,author,time", "validation", {"repeats": "none"}),
        ("{u},{p},{s}", "user,author,time", "validation", {"min_rows_share": 0.0}),
        ("{u},{p},{s}", "user,author,time", "embedding", {"dim": 3}),  # of 7 producers
        ("{u},{p},{d}T10:00:00", "user,author,time", "source", {"time_unit": "iso"}),
        ("{u},{p},{s}000000", "user,author,time", "source", {"time_unit": "us"}),
        ("{u};\"{p}, \\\"x\\\"\";{s}", "user;author;time", "source", {"escape": "\\"}),
    ],
)  # fmt: skip
def test_what_a_log_needs_besides_its_columns(tmp_path, form, header, table, expected):
    _, settings = started(written(tmp_path, lines_of(form, header)))
    assert expected.items() <= settings[table].items()


@pytest.mark.parametrize(
    ("form", "header", "encoding", "guess"),
    [
        ("{u},{i},{s}", "user,movie,time", "utf-8", "the item is the producer"),
        ("é{u},{i},{s}", "user,author,time", "latin-1", "not UTF-8"),
        ("{u},{p},{d}T10:00:00", "user,author,time", "utf-8", "have no offset"),
        ("{u},{p},{s},{s}", "user,author,first_time,last_time", "utf-8", "may be meant"),
        ("{u},{p},{s}", "a,b,c", "utf-8", "no name says so"),
        ("{u} {p} {s}", "", "utf-8", "no header says so"),
        ("{k},{p},{s}\nNA,{p},{s}", "user,author,time", "utf-8", "'NA' is read as an id"),
    ],
)
def test_a_guess_is_marked_in_the_file(tmp_path, form, header, encoding, guess):
    file = tmp_path / "log"
    file.write_bytes(lines_of(form, header).encode(encoding))
    started(file)
    lines = (tmp_path / "my.toml").read_text().splitlines()
    marked = [line for line in lines if line.startswith("# unsure:")]
    assert any(guess in line for line in marked)


def test_a_clear_log_has_no_guess(tmp_path):
    shown, _ = started(written(tmp_path, lines_of("{u},{p},{i},{s}", "user,author,item,time")))
    assert "unsure" not in shown
    assert "# unsure" not in (tmp_path / "my.toml").read_text()


def test_ten_rows_are_shown_as_the_reader_understands_them(tmp_path):
    shown, _ = started(written(tmp_path, lines_of("{u}.0,{p},{s}", "user,author,time")))
    rows = [line.split() for line in shown.splitlines() if "2024-03-01" in line]
    assert rows[-10:][0] == ["0", "0", "engagement", "1.0", "2024-03-01", "00:28:50"]
    assert len([row for row in rows if row[2:3] == ["engagement"]]) == 10


def test_parquet(tmp_path):
    """As pandas writes it: nanoseconds without a zone, and ids with a gap as floats."""
    times = pa.array([(START_S + n) * 1_000_000_000 for n in range(50)])
    users = pa.array([float(n % 9) if n else None for n in range(50)])
    table = {"user": users, "author": ["a", "b"] * 25, "at": times.cast(pa.timestamp("ns"))}
    parquet.write_table(pa.table(table), tmp_path / "log.parquet")
    _, settings = started(tmp_path / "log.parquet")
    assert settings["source"]["columns"]["time"] == "at"
    assert "separator" not in settings["source"]


@pytest.mark.parametrize(
    ("form", "header", "named"),
    [
        ("{u}\t{i}\t{r}\t4\t2009", "userID\tartistID\tday\tmonth\tyear", "day, month, year"),
        ("{u}\t{i}\tmorning", "user\titem\tdaytime", "user, item, daytime"),
        ("{u},{i},03/{r}/2024 9:30", "user,item,when", "03/1/2024 9:30"),
        ("{s},{r}.5", "time,temperature", "two ids"),
        ("{u},{i},2024-03-01 9:30 PM", "user,item,when", "such as '2024-03-01 9:30 PM'"),
        ("{u},{i},", "user,item,time", "'time' is empty"),
        ("{u};{i};{s}", "sep=;\nuser;item;time", "first line, 'sep=;'"),
        ("{u},{i},{s},{s}", "user,item,time,time", "several columns 'time'"),
        ('"1" "{u}" "{i}" {s}', '"user" "item" "time"', "3 names in its first line"),  # R's
        ("{u} - [{d} 10/Mar/2024:10:00:00 +0000] /{i} {s}1{r}{s}", "", "10/Mar/2024:10:00:00"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(tmp_path, form, header, named):
    file = written(tmp_path, lines_of(form, header))
    result = CliRunner().invoke(app, ["init", str(file), "--output", str(tmp_path / "my.toml")])
    assert result.exit_code == 1
    assert named in result.output
    assert not (tmp_path / "my.toml").exists()


@pytest.mark.parametrize(
    ("break_", "at"),
    [
        (lambda line: "", range(0, 120, 5)),
        (lambda line: "   \t", range(0, 120, 5)),
        (lambda line: line + ",,", range(1, 121)),
        (lambda line: line.replace("1709", "\x00709"), [60]),
    ],
)
def test_what_the_reader_passes_over_is_no_obstacle(tmp_path, break_, at):
    """Blank lines, separators at the end of a line, and a NUL in one row."""
    lines = lines_of("{u},{p},{s}", "user,author,time").splitlines()
    lines = [break_(line) if n in at and n else line for n, line in enumerate(lines)]
    _, settings = started(written(tmp_path, "\n".join(lines) + "\n"))
    columns = {"consumer_id": "user", "producer_id": "author", "time": "time"}
    assert settings["source"]["columns"] == columns


@pytest.mark.parametrize("odd", ["user,author,time", "# a, b, comment", "1,2,1709252930000"])
def test_a_few_lines_with_other_times_are_a_guess(tmp_path, odd):
    lines = lines_of("{u},{p},{s}", "user,author,time").splitlines()
    _, settings = started(written(tmp_path, "\n".join([*lines[:40], odd, odd, odd]) + "\n"))
    assert settings["source"]["columns"]["time"] == "time"
    assert (
        f"# unsure: values such as '{odd.split(',')[2].strip()}'"
        in (tmp_path / "my.toml").read_text()
    )


def test_another_column_of_times_is_a_guess_though_it_is_coarser(tmp_path):
    lines = ["user,author,created_at,updated_at"]
    lines += [f"u{n},p{n % 9},{START_S // 60 * 60 + 60 * n},{START_S + n}" for n in range(60)]
    started(written(tmp_path, "\n".join(lines) + "\n"))
    assert "# unsure: 'created_at' may be meant" in (tmp_path / "my.toml").read_text()


@pytest.mark.parametrize("header", [",user,author,time", '"","user","author","time"'])
def test_a_column_without_a_name_is_not_used(tmp_path, header):
    """As pandas and R write the numbers of the rows."""
    lines = [header, *(f"{n},u{n},p{n % 2},{START_S + n}" for n in range(60))]
    result = CliRunner().invoke(
        app, ["init", str(written(tmp_path, "\n".join(lines))), "--output", str(tmp_path / "t")]
    )
    assert 'producer_id = ""' not in result.output
    assert result.exit_code == 1 or 'producer_id = "author"' in (tmp_path / "t").read_text()


def test_files_in_several_encodings(tmp_path):
    """A file in ASCII is read with that of another one; what is in neither is left out."""
    accents = LOG.replace("\n1,", "\nJosé,")
    folder = folder_of(tmp_path, a_csv=LOG * 2)
    (folder / "b.csv").write_bytes(accents.encode("latin-1"))
    _, settings = started(folder)
    assert (settings["source"]["path"], settings["source"]["encoding"]) == ("log", "latin-1")
    (folder / "c.csv").write_bytes(accents.encode("utf-8") * 3)
    (folder / "d.csv").write_bytes(LOG.encode("utf-16"))
    shown, settings = started(folder, "--force")
    assert "encoding" not in settings["source"]
    assert "b.csv is written in another way" in shown
    assert "d.csv is written in another way" in shown


def test_a_link_that_leads_nowhere_is_named(tmp_path):
    folder = folder_of(tmp_path, a_csv=LOG)
    (folder / "b.csv").symlink_to("nowhere.csv")
    shown, _ = started(folder)
    assert "b.csv cannot be read" in shown


def folder_of(tmp_path, **files: str) -> Path:
    folder = tmp_path / "log"
    folder.mkdir()
    for name, text in files.items():
        stem, _, suffix = name.rpartition("_")
        packed = gzip.compress(text.encode()) if suffix == "gz" else text.encode()
        (folder / f"{stem}.{suffix}").write_bytes(packed)
    return folder


LOG = lines_of("{u},{p},{s}", "user,author,time")
ITEMS = lines_of("{i},{p}", "item,author")


@pytest.mark.parametrize(
    ("files", "path", "named"),
    [
        ({"a_csv": LOG, "b_csv": LOG, "c_csv": "user,author,time\n"}, "log", "1 without rows"),
        ({"a_csv": LOG, "b_gz": LOG}, "log", "2 with these columns"),
        ({"log-1_csv": LOG, "log-2_csv": LOG, "items_csv": ITEMS}, "log/log-*", "items.csv"),
        ({"a_gz": LOG, "b_gz": LOG, "items_csv": ITEMS}, "log/*.gz", "items.csv"),
        ({"a_csv": LOG, "README_txt": "About\nthis log\n"}, "log/a.csv", "README.txt"),
    ],
)
def test_a_folder_whose_files_differ(tmp_path, files, path, named):
    """The settings name the files of the log only, and `init` says which others there are."""
    shown, settings = started(folder_of(tmp_path, **files))
    assert settings["source"]["path"] == path
    assert named in shown


def test_files_with_the_columns_that_are_read_are_one_log(tmp_path):
    """In any order, and with more of them; a note of one line is no file without rows."""
    swapped = lines_of("{s},{u},{p}", "time,user,author")
    more = lines_of("{u},{p},{s},x{r}", "user,author,time,note")
    files = {"a_csv": LOG, "b_csv": swapped, "c_csv": more, "a_md5": "0123abcd,a.csv\n"}
    shown, settings = started(folder_of(tmp_path, **files))
    assert settings["source"]["path"] == "log/*.csv"
    assert "3 with these columns" in shown
    assert "a.md5 has other columns" in shown


@pytest.mark.parametrize("form", ["{u},{p},{s}000", "{u},{p},{s}000000", "{u},{p},2024-03-01"])
@pytest.mark.parametrize("more", ["", "x"])
def test_a_file_whose_times_have_another_unit_is_left_out(tmp_path, form, more):
    """One setting cannot read both: its times would be a thousand times too large."""
    header = "user,author,time"
    other = lines_of(f"{form},{{r}}" if more else form, f"{header},{more}" if more else header)
    shown, settings = started(folder_of(tmp_path, a_csv=LOG * 4, b_csv=other))
    assert settings["source"]["path"] == "log/a.csv"
    assert "b.csv has times: " in shown


def test_a_table_whose_times_have_another_unit_is_left_out(tmp_path):
    """Whole numbers in Parquet say nothing of their unit but by their size."""
    folder = tmp_path / "log"
    folder.mkdir()
    for name, factor, rows in (("a", 1, 400), ("b", 1000, 200)):
        numbers = range(rows)
        columns = {
            "user": [f"u{n % 20}" for n in numbers],
            "author": [f"p{n % 7}" for n in numbers],
            "time": [factor * (1_709_251_200 + 60 * n) for n in numbers],
        }
        parquet.write_table(pa.table(columns), folder / f"{name}.parquet")
    shown, settings = started(folder)
    assert settings["source"]["path"] == "log/a.parquet"
    assert "b.parquet has times: ms since 1970" in shown


def test_no_file_is_listed_twice(tmp_path):
    """The largest file has the columns as well, but does not tell what they are: two are empty."""
    large = lines_of(",,{s},{r}.512345678901", "user,author,time,x")
    shown, settings = started(folder_of(tmp_path, a_csv=LOG, b_csv=large))
    assert settings["source"]["path"] == "log"
    assert "2 with these columns" in shown


@pytest.mark.parametrize(
    ("form", "header", "note"),
    [
        ("{u},{i},${r}.50,{s}", "user,item,amount,time", "'amount' has texts such as $"),
        ("{u},{i},y{c},{s}", "user,item,clicked,time", "'clicked' has y0, y1"),
    ],
)
def test_columns_that_are_not_what_they_are_called_are_named(tmp_path, form, header, note):
    shown, settings = started(written(tmp_path, lines_of(form, header)))
    assert note in shown
    assert "# " + note in (tmp_path / "my.toml").read_text()
    assert "labels" not in settings["source"]


def test_files_that_no_pattern_tells_apart_are_a_guess(tmp_path):
    folder = folder_of(tmp_path, a_csv=LOG, b_csv=ITEMS, c_csv=LOG)
    shown, settings = started(folder)
    assert settings["source"]["path"] == "log"
    assert "b.csv has other columns: item, author" in shown
    assert "# unsure: some files differ" in (tmp_path / "my.toml").read_text()


def test_a_settings_file_is_not_replaced_unless_asked(tmp_path):
    file = written(tmp_path, LOG)
    (tmp_path / "my.toml").write_text("# mine\n")
    result = CliRunner().invoke(app, ["init", str(file), "--output", str(tmp_path / "my.toml")])
    assert result.exit_code == 1
    assert "--force" in result.output
    assert (tmp_path / "my.toml").read_text() == "# mine\n"
    started(file, "--force")


def test_a_log_in_another_folder_has_an_absolute_path(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    file = written(tmp_path, LOG)
    output = tmp_path / "elsewhere" / "my.toml"
    assert CliRunner().invoke(app, ["init", str(file), "--output", str(output)]).exit_code == 0
    assert load_settings(output).source.path == file


UNSEEN = "\x1b[2J\x07\x9b\u202e\u2066"


@pytest.mark.parametrize(
    "header", [f"user,author,time,{UNSEEN}", f"user{UNSEEN},author,time,x", "user,author,time,x"]
)
def test_texts_of_the_log_do_not_command_the_terminal(tmp_path, header):
    text = lines_of(f"u{UNSEEN}{{u}},{UNSEEN}{{p}},{{s}},{UNSEEN}", header)
    output, _ = started(written(tmp_path, text, f"{UNSEEN}.csv"))
    assert "\\x1b[2J" in output
    assert [line for line in output.split("\n") if not line.isprintable()] == []


def test_an_error_does_not_command_the_terminal(tmp_path):
    file = written(tmp_path, "only one column\n", f"{UNSEEN}.csv")
    result = CliRunner().invoke(app, ["init", str(file), "--output", str(tmp_path / "my.toml")])
    assert result.exit_code == 1
    assert "\\x1b[2J" in result.output
    assert result.output.strip().isprintable()
