"""The step `train` on several processes, on one machine or on several with a common home.

torchrun starts this in every process. The first one does all that the step does: it computes what
is missing, and commits the partition. The others wait for it, and train along. What is missing may
be the training of an earlier day, so that it is computed before the processes meet.
"""

from __future__ import annotations

from datetime import date

from jobs.lake.store import Partition
from jobs.pipeline import chain, running
from jobs.pipeline.plan import module
from jobs.pipeline.running import SparkMaker
from jobs.settings import Settings

TRAIN = "train"


def train_together(settings: Settings, day: date, make_spark: SparkMaker) -> Partition | None:
    """Run `train` of a day in all processes; returns its partition in the first one.

    Raises what the step raises, in the first process; torchrun then ends the others.
    """
    from models import processes

    if processes.is_first():
        running.read_new_files(settings, make_spark)
        running.prepare(settings, TRAIN, day, make_spark)
    with processes.connected():
        if processes.rank() > 0:
            if processes.announce():  # waits until the first process has all inputs
                module(TRAIN).join(settings, day)
            return None
        partition = running.execute_prepared(settings, TRAIN, day, make_spark)
        if not chain.has_model(partition):
            # The step has not said so: the day does without a training.
            processes.announce(go_on=False)
        return partition
