"""A Spark Connect session, as under Airflow, writes the same partitions as a classic one."""

from __future__ import annotations

import subprocess
import sys

import pytest
from small_logs import DAYS, kuairand_log, write_kuairand

from jobs.settings import Settings, SparkSettings
from jobs.sources.kuairand import KuaiRandSettings
from jobs.steps import land, validate

LAND_AND_VALIDATE = """
import sys
from datetime import date
from jobs import settings
from jobs.spark import session
from jobs.steps import land, validate
from jobs.errors import BadInput

chosen = settings.Settings.model_validate_json(sys.argv[1])
spark = session.spark_session(chosen)
assert "connect" in type(spark).__module__, type(spark)
land.run(spark, chosen, date(2024, 3, 1))
validate.run(spark, chosen, date(2024, 3, 1))
land.run(spark, chosen, date(2024, 3, 2))  # a day without rows
file = chosen.source.path / "data" / "user_features_pure.csv.gz"
file.write_bytes(file.read_bytes()[:-20])
try:
    land.run(spark, chosen, date(2024, 3, 3))
except BadInput as error:
    print(error)
"""


@pytest.mark.slow
def test_a_connect_session_writes_the_bytes_of_a_classic_one(spark, connect, tmp_path):
    log = kuairand_log([DAYS[0], DAYS[2]]).astype(object)
    log.loc[:2, "is_click"] = 7
    source = KuaiRandSettings(kind="kuairand", path=write_kuairand(tmp_path / "log", log))
    here = Settings(home=tmp_path / "here", source=source)
    there = Settings(home=tmp_path / "there", source=source, spark=SparkSettings(remote=connect))
    land.run(spark, here, DAYS[0])
    validate.run(spark, here, DAYS[0])
    command = [sys.executable, "-c", LAND_AND_VALIDATE, there.model_dump_json()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    for step in ("land", "validate", "quarantine"):
        assert there.lake.get(step, DAYS[0]).digest == here.lake.get(step, DAYS[0]).digest
    assert there.lake.get("land", DAYS[1]).facts["rows_impressions"] == 0
    assert "user_features_pure.csv.gz cannot be read to its end" in done.stdout
    assert there.lake.days("land") == DAYS[:2]
