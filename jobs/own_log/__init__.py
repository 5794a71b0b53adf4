"""Starting with a log of one's own: `evergreen init` and `evergreen check`.

roles.py      which column says who engaged with whom, and when
draft.py      roles -> a settings file with its reasons
start.py      `init`: the files of a log, looked at, and what is shown of them
checking.py   `check`: what would be landed of every file, and what put aside
"""
