"""The steps of a day: one file per step, named as its Airflow task.

A step is a transaction on one day: it reads committed partitions and writes its own, whole or not
at all. Every file has

    SETTINGS    sections of the settings that shape its result
    FACTS       declarations of the facts that it reports (`embeddings.facts`)
    FORMAT      a number to be raised when the code computes something else from the same inputs:
                what was computed before is then computed again
    SPARK       whether it needs a Spark session
    needs(settings, day)         the (step, day) pairs of all partitions that it reads, which become
                                 its inputs; a generator where later pairs depend on partitions
                                 computed for earlier ones. What it can do without it names as
                                 `optional` (`jobs.pipeline.needs`)
    run(spark, settings, day)    writes the partition; raises Skip where there is nothing to do.
                                 spark is None where SPARK is False

and may have

    BESIDE                       other partitions that it commits
    chosen_facts(settings)       declarations that depend on the settings
    track(tracker, partition)    what to log to MLflow besides facts and reports

`jobs.pipeline.plan` knows their order, and writes their partitions (`plan.writing`). A step with
optional needs reads only what `plan.reads` finds, and records that (`plan.recording`).
"""
