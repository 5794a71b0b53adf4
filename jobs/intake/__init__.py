"""Reading log files: every line ends as a row of a day, or put aside with its reason.

dialect.py    how a log writes its rows
streams.py    the bytes of a file: decompressed, decoded, digested on the way
records.py    bytes -> records, with the number of the line on which each begins
fields.py     records -> columns of text
values.py     columns of a log -> columns of ours: ids, numbers, labels
times.py      times as they are written -> milliseconds, and the days that they are in
reading.py    what is wanted of a file, and its rows, batch by batch
taken.py      one file, read once: its rows by day, and an account of every line
index.py      what is known of all files of a log
content.py    what the values of a column look like
look.py       how a file is written, by its beginning; what was misread
"""
