"""Tuning: which options of an embedder or of the ranker suit this log, measured on its own days.

    space        what a trial may choose
    objectives   what a trial is worth, day by day
    study        trials in a database of their own, each of which a kill may end
    records      the same in MLflow
    pictures     which option matters, and what the trials chose
    run          begin, a trial, and the end of a study: what commands and DAGs call

The result is a piece of the settings file, for a person to adopt; a study changes nothing.
"""
