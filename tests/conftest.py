"""What every test may ask for: one real Spark for the whole suite, and settings with a home of their own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

KUAIRAND = Path(__file__).parent.parent / "data" / "kuairand-pure"


@pytest.fixture(scope="session")
def spark():
    """A classic local session, as `evergreen run` has it."""
    from jobs.session import spark_session
    from jobs.settings import KuaiRandSettings, Settings, SparkSettings

    source = KuaiRandSettings(kind="kuairand", path=KUAIRAND)
    session = spark_session(Settings(source=source, spark=SparkSettings(master="local[2]", driver_memory="1g")))
    yield session
    session.stop()


@pytest.fixture
def settings(tmp_path):
    """KuaiRand settings below a fresh home."""
    from jobs.settings import KuaiRandSettings, Settings

    return Settings(home=tmp_path / "home", source=KuaiRandSettings(kind="kuairand", path=KUAIRAND))
