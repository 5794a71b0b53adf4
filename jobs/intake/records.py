"""From the bytes of a text file to its records, each with the number of the line it begins on.

A record is what ends with a line break outside of quotes (RFC 4180). Where quotes do not add up,
the smallest piece is put aside that cannot be a record, and never a piece of somebody's text is
taken for a record of its own:

- a quoted field that holds a quote which is not doubled, up to where it is closed after all;
- the line of a quote that is never closed: the lines after it are records again, unless the file
  ends in the middle of a line, since then it is the quoted text that was cut.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from jobs.intake.dialect import WHITE_SPACE, Dialect

LONGEST_RECORD = 1 << 20  # bytes; a quote that is open for longer is never closed
LINE_FEED, CARRIAGE_RETURN = ord("\n"), ord("\r")

NOT_CLOSED = "quote_not_closed"
NOT_DOUBLED = "quote_not_doubled"
LONE_RETURN = "carriage_return_in_line"
RETURNS = re.compile(rb"\r\r++\n")
# Of groups. Python before 3.11.5, such as Debian's, loses matches where the body of a possessive
# repeat backtracks (CPython 106052).
POSSESSIVE = sys.version_info >= (3, 11, 5)
MANY = rb"*+" if POSSESSIVE else rb"*"
# Of a list of edges: what separates, and what is left of it at the ends of a line.
BLANKS = re.compile(rb"[ \t\r\f\v]+")
EDGE_BLANKS = re.compile(rb"(?m)^\t|\t$")


@dataclass(frozen=True)
class Fault:
    """Text that cannot be read as a record. line: the one it begins on; lines: how many it has."""

    line: int
    text: bytes
    reason: str
    lines: int = 1


@dataclass(frozen=True)
class Block:
    """Whole records, one after another, and the text in between that is none.

    data: the records. start_R, line_R: the place in it, and in the file the line, on which each
    begins. lines: how many the block has, blank ones and comments (`skipped`) included.
    """

    data: bytes
    start_R: np.ndarray
    line_R: np.ndarray
    faults: list[Fault] = field(default_factory=list)
    lines: int = 0
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.line_R)

    def text(self, record: int) -> bytes:
        """One record, with its line break."""
        ends = self.start_R[record + 1] if record + 1 < len(self) else len(self.data)
        return self.data[self.start_R[record] : ends]

    def without_first(self) -> Block:
        """The same after its first record: that of a header."""
        cut = int(self.start_R[1]) if len(self) > 1 else len(self.data)
        return replace(
            self,
            data=self.data[cut:],
            start_R=self.start_R[1:] - cut,
            line_R=self.line_R[1:],
            skipped=self.skipped + 1,
        )


class Splitter:
    """Splits pieces of a file into blocks of records.

    Between pieces it keeps the record that has not ended yet.
    """

    def __init__(self, dialect: Dialect, line: int = 1) -> None:
        """line: the number of the first line."""
        self.dialect = dialect
        self.line = line
        self._rest = b""
        self._patterns = Patterns.of(dialect)

    def blocks(self, chunks: Iterable[bytes]) -> Iterator[Block]:
        """The blocks of a file. chunks: see `streams.chunks`."""
        pieces = iter(chunks)
        piece = next(pieces, None)
        while piece is not None:
            try:
                following = next(pieces, None)
            except Exception:
                yield self._block(piece, final=False)  # what came before the damage
                raise
            yield self._block(piece, final=following is None)
            piece = following

    def _block(self, chunk: bytes, final: bool) -> Block:
        cut_short = final and not chunk.endswith(b"\n")
        if cut_short:
            chunk += b"\n"
        data = self._rest + separated(chunk, self.dialect)
        lines = Lines.of(data, self.dialect)
        begins, faults, used = self._split(lines, final, cut_short)
        block = gathered(lines, begins, faults, used, self.line, self._patterns)
        self._rest = data[lines.start(used) :]
        self.line += used
        return block

    def _split(
        self, lines: Lines, final: bool, cut_short: bool
    ) -> tuple[np.ndarray, list[tuple[int, int, str]], int]:
        """The line numbers (from 0) at which records begin, faults, and how many lines are used.

        A fault is its first line, the line after it, and the reason. A record ends where the next
        record, a fault or a skipped line begins.
        """
        if lines.regular and not lines.has_odd_comment:
            begins = np.flatnonzero(lines.even_before_N[:-1])
            # The last line break may be inside of quotes: its record is not complete.
            if lines.even_before_N[-1]:
                return begins, [], len(lines)
            if not final and lines.size - lines.start(int(begins[-1])) < LONGEST_RECORD:
                return begins[:-1], [], int(begins[-1])
        return self._split_irregular(lines, final, cut_short)

    def _split_irregular(
        self, lines: Lines, final: bool, cut_short: bool
    ) -> tuple[np.ndarray, list[tuple[int, int, str]], int]:
        """The same one line with quotes after another, with regular expressions."""
        begins: list[np.ndarray] = []
        faults: list[tuple[int, int, str]] = []
        special = np.flatnonzero(lines.special_N)
        at = 0
        while at < len(lines):
            index = int(np.searchsorted(special, at))
            until = int(special[index]) if index < len(special) else len(lines)
            begins.append(np.arange(at, until))  # without quotes, a line is a record
            if until == len(lines):
                at = until
                break
            at = until
            if lines.is_comment(at):
                begins.append(np.array([at]))
                at += 1
                continue
            found = self._patterns.judge(lines.data, lines.start(at), final, cut_short)
            if found is None:  # the rest of the record is in the next piece
                break
            end, reason = found
            after = lines.after(end)
            if reason:
                faults.append((at, after, reason))
            else:
                begins.append(np.array([at]))
            at = after
        joined = np.concatenate(begins) if begins else np.zeros(0, dtype=np.int64)
        return joined.astype(np.int64), faults, at


def separated(chunk: bytes, dialect: Dialect) -> bytes:
    """The text with a single byte between two fields, and a single line break between two lines."""
    if b"\r\r" in chunk:
        chunk = RETURNS.sub(b"\n", chunk)
    if dialect.escape == "\\" and "\\N" in dialect.nulls and "" in dialect.nulls:
        # What MySQL and Hive write for nothing; Arrow would read the letter.
        edge = rb"(?:^|(?<=%b))" % re.escape(dialect.byte)
        chunk = re.sub(rb"(?m)%b\\N(?=%b|\r*$)" % (edge, re.escape(dialect.byte)), b"  ", chunk)
    if dialect.separator == WHITE_SPACE:
        return EDGE_BLANKS.sub(b"", BLANKS.sub(b"\t", chunk))
    written = dialect.separator.encode()
    if written == dialect.byte:
        return chunk
    if dialect.byte in chunk:
        raise UnicodeError(
            f"it holds the byte {dialect.byte.hex()}, which stands for the separator "
            f"'{dialect.separator}' here: write it with a separator of one character"
        )
    return chunk.replace(written, dialect.byte)


def gathered(
    lines: Lines,
    begins: np.ndarray,
    faults: list[tuple[int, int, str]],
    used: int,
    first: int,
    patterns: Patterns,
) -> Block:
    """A block of the records that begin at these lines, without blank lines and comments.

    begins: numbers of lines from 0, ascending. first: the number of the first line in the file.
    """
    bytes_ = np.frombuffer(lines.data, dtype=np.uint8)
    every_start = np.concatenate([[0], lines.end_N])
    bounds = np.union1d(begins, [line for line, _, _ in faults]).astype(np.int64)
    ends = np.concatenate([bounds[1:], [used]])[np.searchsorted(bounds, begins)]
    start_R, end_R = every_start[begins], every_start[ends]
    head = bytes_[start_R] if len(start_R) else np.zeros(0, dtype=np.uint8)
    skip = (head == LINE_FEED) | ((head == CARRIAGE_RETURN) & (end_R - start_R <= 3))
    for byte in lines.comments:
        skip |= head == byte
    kept_start, kept_end = start_R[~skip], end_R[~skip]
    wrong = [
        Fault(first + at, lines.data[lines.start(at) : lines.start(after)], reason, after - at)
        for at, after, reason in faults
    ]
    data, places = joined(lines.data, kept_start, kept_end)
    if not lines.regular or not lines.even_before_N[-1] or lines.has_odd_comment:
        data, places = patterns.without_blanks(data, places)
    return Block(data, places, first + begins[~skip], wrong, used, int(skip.sum()))


def joined(data: bytes, start_R: np.ndarray, end_R: np.ndarray) -> tuple[bytes, np.ndarray]:
    """These pieces of the data one after another, and where each begins then."""
    if not len(start_R):
        return b"", start_R
    gaps = np.flatnonzero(end_R[:-1] != start_R[1:])
    firsts = np.concatenate([[0], gaps + 1])
    lasts = np.concatenate([gaps, [len(start_R) - 1]])
    pieces = []
    for first, last in zip(firsts, lasts, strict=True):
        pieces.append(data[start_R[first] : end_R[last]])
    lengths = end_R - start_R
    return b"".join(pieces), np.cumsum(lengths) - lengths


@dataclass(frozen=True)
class Lines:
    """The lines of a piece of a file, all of them ended.

    end_N: where each ends, after its line break. even_before_N: (N + 1,) is the number of quotes
    before each line even, and at the end? special_N: has the line a quote, an escape, or a carriage
    return that ends no line? regular: does counting quotes tell where records end? comments: the
    bytes with one of which a comment begins.
    """

    data: bytes
    end_N: np.ndarray
    even_before_N: np.ndarray
    special_N: np.ndarray
    regular: bool
    comments: bytes

    def is_comment(self, line: int) -> bool:
        """Does a line begin like a comment? Within quotes, it is none for all that."""
        return self.data[self.start(line)] in self.comments

    @property
    def has_odd_comment(self) -> bool:
        """Has a line that begins like a comment quotes, which must not count?"""
        if not self.comments:
            return False
        special = np.flatnonzero(self.special_N)
        return any(self.is_comment(int(line)) for line in special)

    @property
    def size(self) -> int:
        return len(self.data)

    def __len__(self) -> int:
        return len(self.end_N)

    def start(self, line: int) -> int:
        return int(self.end_N[line - 1]) if line else 0

    def after(self, end: int) -> int:
        """The number of the line that begins at this place."""
        return int(np.searchsorted(self.end_N, end)) + 1

    @classmethod
    def of(cls, data: bytes, dialect: Dialect) -> Lines:
        bytes_ = np.frombuffer(data, dtype=np.uint8)
        end_N = np.flatnonzero(bytes_ == LINE_FEED) + 1
        count = len(end_N)
        quote = ord(dialect.quote) if dialect.quote else -1
        quotes = np.flatnonzero(bytes_ == quote) if quote >= 0 else np.zeros(0, dtype=np.int64)
        returns = lone_returns(data)
        before_N = np.zeros(count + 1, dtype=np.int64)
        before_N[1:] = np.searchsorted(quotes, end_N)
        special_N = np.diff(before_N) > 0
        special_N[np.searchsorted(end_N, returns, side="right")] = True
        if dialect.escape:
            escapes = np.flatnonzero(bytes_ == ord(dialect.escape))
            special_N[np.searchsorted(end_N, escapes, side="right")] = True
        even_before_N = before_N % 2 == 0
        regular = not dialect.escape and not returns and well_placed(bytes_, quotes, dialect)
        comments = dialect.comments.encode()
        return cls(data, end_N, even_before_N, special_N, regular, comments)


def lone_returns(data: bytes) -> list[int]:
    """Where carriage returns are that do not end a line; \\r\\r\\n ends one as well."""
    if data.count(b"\r") == data.count(b"\r\n"):
        return []
    return [found.start() for found in re.finditer(rb"\r(?!\r*+\n)", data)]


def well_placed(data: np.ndarray, quotes: np.ndarray, dialect: Dialect) -> bool:
    """Does every quoted field begin and end at a separator, with its own quotes doubled?"""
    if not len(quotes):
        return True
    separator = dialect.byte[0]
    opening, closing = quotes[::2], quotes[1::2]
    quote = ord(dialect.quote)
    before = data[opening[opening > 0] - 1]
    fine = (before == separator) | (before == LINE_FEED) | (before == quote)
    if not fine.all():
        return False
    after = data[np.minimum(closing + 1, len(data) - 1)]
    ends = (after == separator) | (after == LINE_FEED) | (after == quote)
    return bool((ends | (after == CARRIAGE_RETURN)).all())


def possessive(body: bytes, name: bytes) -> bytes:
    """(?:body)*+, also where Python gets that wrong. name: of a group that it may have."""
    if POSSESSIVE:
        return rb"(?:%b)*+" % body
    return rb"(?=(?P<%b>(?:%b)*))(?P=%b)" % (name, body, name)  # a look ahead is never tried again


@dataclass(frozen=True)
class Patterns:
    """What a record looks like, as regular expressions for its bytes."""

    one_field: re.Pattern[bytes]
    record: re.Pattern[bytes]
    open_record: re.Pattern[bytes]
    undoubled: re.Pattern[bytes]
    blanks: re.Pattern[bytes]
    quote: bytes
    separator: bytes

    @classmethod
    def of(cls, dialect: Dialect) -> Patterns:
        s = re.escape(dialect.byte)
        q = re.escape(dialect.quote.encode()) if dialect.quote else rb"[^\x00-\xff]"
        blank = rb"[ \t]*+" if dialect.byte != b"\t" else rb"[ ]*+"
        if dialect.escape:
            e = re.escape(dialect.escape.encode())
            inner = rb"(?:[^%b%b]++|%b.|%b%b)%b" % (q, e, e, q, q, MANY) if e != q else b""
            plain = rb"(?!%b%b)(?:[^%b\r\n%b]++|%b.)%b" % (blank, q, s, e, e, MANY)
        else:
            inner = rb"(?:[^%b]++|%b%b)%b" % (q, q, q, MANY)
            plain = rb"(?!%b%b)[^%b\r\n]*+" % (blank, q, s)
        # What follows is asked here, because a field that was taken is never tried otherwise; where
        # it is, since MANY is not possessive, it has no other end.
        closed = rb"(?=%b|\r*+\n)" % s
        quoted = rb"%b%b%b%b%b%b" % (blank, q, inner, q, blank, closed)
        one = rb"(?:%b|%b)" % (quoted, plain)
        end = rb"\r*+\n"
        # A quote that is followed by neither a separator nor an end, and does not look like the
        # beginning of a field either: after a separator or a line break, and up to two blanks.
        inside = b"".join(rb"(?<![%b\n]%b)" % (s, rb"[ \t]" * blanks) for blanks in range(3))
        text = rb"[^%b]++|%b%b|%b%b(?!%b(?:%b|\r*\n))" % (q, q, q, inside, q, blank, s)
        any_fields = []
        for name in (b"first", b"other"):
            loose = rb"%b%b%b%b%b" % (blank, q, possessive(text, name), q, blank)
            any_fields.append(rb"(?:%b|%b|%b)" % (quoted, loose, plain))
        first, other = any_fields
        flags = re.DOTALL
        return cls(
            re.compile(one, flags),
            re.compile(rb"%b(?:%b%b)%b%b" % (one, s, one, MANY, end), flags),
            re.compile(rb"(?:%b%b)%b%b%b%b\Z" % (one, s, MANY, blank, q, inner), flags),
            re.compile(rb"%b(?:%b%b)%b%b" % (first, s, other, MANY, end), flags),
            re.compile(rb"[ \t]%b|%b[ \t]" % (q, q)),
            dialect.quote.encode(),
            dialect.byte,
        )

    def judge(
        self, data: bytes, start: int, final: bool, cut_short: bool
    ) -> tuple[int, str] | None:
        """Where the record at `start` ends, and why it is none; None where it is not complete."""
        found = self.record.match(data, start)
        if found is not None and found.end() - start <= LONGEST_RECORD:
            return found.end(), ""
        line_end = data.index(b"\n", start) + 1
        if found is None and self.open_record.match(data, start) is not None:
            if not final and len(data) - start < LONGEST_RECORD:
                return None
            cut = cut_short and len(data) - start < LONGEST_RECORD and self.ends_short(data)
            return (len(data) if cut else line_end), NOT_CLOSED
        if found is None and (not self.quote or self.quote not in data[start:line_end]):
            return line_end, LONE_RETURN
        loose = found or self.undoubled.match(data, start)
        if loose is not None and loose.end() - start <= LONGEST_RECORD:
            return loose.end(), NOT_DOUBLED
        return line_end, NOT_CLOSED

    def ends_short(self, data: bytes) -> bool:
        """Has the last line fewer separators than the first one?"""
        last = data.rstrip(b"\n").rpartition(b"\n")[2]
        first = data.partition(b"\n")[0]
        return last.count(self.separator) < first.count(self.separator)

    def without_blanks(self, data: bytes, start_R: np.ndarray) -> tuple[bytes, np.ndarray]:
        """The records without blanks around quotes, which Arrow takes for a part of the field."""
        if not self.quote:
            return data, start_R
        found = {
            int(np.searchsorted(start_R, at.start(), side="right")) - 1
            for at in self.blanks.finditer(data)
        }
        if not found:
            return data, start_R
        ends = np.append(start_R[1:], len(data))
        pieces = []
        lengths = ends - start_R
        at = 0
        for record in sorted(found):
            pieces.append(data[at : start_R[record]])
            at = int(ends[record])
            trimmed = self.trimmed(data[start_R[record] : at])
            pieces.append(trimmed)
            lengths[record] = len(trimmed)
        pieces.append(data[at:])
        return b"".join(pieces), np.cumsum(lengths) - lengths

    def trimmed(self, record: bytes) -> bytes:
        """A record without blanks around its quoted fields."""
        fields = []
        at = 0
        while True:
            found = self.one_field.match(record, at)
            assert found is not None, "a record consists of fields"
            field = found[0]
            fields.append(field.strip(b" \t") if field.lstrip(b" \t")[:1] == self.quote else field)
            at = found.end()
            if record[at : at + 1] != self.separator:
                return self.separator.join(fields) + record[at:]
            at += 1
