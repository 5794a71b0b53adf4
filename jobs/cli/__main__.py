"""`python -m jobs.cli`: the command line where no `evergreen` is installed."""

from jobs.cli import app

app()
