"""All settings, with their defaults. One TOML file, environment variables over it, unknown keys refused.

`EVERGREEN_SETTINGS` names the file; any option can be overridden as `EVERGREEN_SECTION__OPTION`, and the home as
`EVERGREEN_HOME`. Relative paths in the file are relative to the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from jobs.errors import SettingsError
from jobs.section import Section
from jobs.sources import settings_of_any_kind
from jobs.sources.base import SourceSettings

DEFAULT_FILE = Path(__file__).parent.parent / "evergreen.toml"


class SparkSettings(Section):
    remote: str = ""  # sc://host:port/;token=... ; empty: a classic session on `master`
    master: str = "local[*]"
    partitions: int = 2  # output files of a large table, shuffle partitions, blocks of the matrix
    members: int = Field(  # tasks of the job that factorises, all running at once: at most the cores that Spark has
        default_factory=lambda: min(2, os.cpu_count() or 1), ge=1
    )
    driver_memory: str = "2g"
    conf: dict[
        str, str
    ] = {}  # Spark's own options, over ours, for a driver of ours: `master`, not `remote`


class ValidationSettings(Section):
    max_bad_share: float = 0.05  # more bad rows than this, and the day is not trusted
    min_rows_share: float = 0.5  # of the trailing median; fewer rows, and the day is not trusted. 0: quiet days are normal
    median_days: int = 7  # length of the trailing median
    median_min_days: int = 3  # with fewer days behind it, the row count is not judged


class MatrixSettings(Section):
    window_days: int = 14  # trailing days whose engagements count, the day itself included
    producers: int = 5000  # the top N producers span the matrix
    drop_top: int = Field(
        default=0, ge=0
    )  # the T most popular of all are left out of it; the N come after them
    rank_by: str = (
        ""  # kind that ranks them, such as "follow" where follows are known; empty: any engagement
    )
    min_engagements: int = 2  # a consumer with fewer in the window is folded in, not fitted
    weights: dict[str, float] = {}  # strength of one engagement by kind; a kind not named counts 1


class ALSSettings(Section):
    """Implicit ALS; see embeddings/embedders/als.py for what is minimised."""

    iterations: int = (
        32  # two seeds then agree to a mean cosine of 0.95 between their producers, with 16 to 0.91
    )
    unobserved_weight: float = 0.1  # α0, the weight of every pair, engaged or not
    regularization: float = 0.003  # λ
    frequency_exponent: float = (
        1.0  # ν: 0, the same penalty for all; 1, in proportion to a row's engagements
    )
    solver: Literal["cg", "exact"] = "cg"


class EmbeddingSettings(Section):
    name: str = "producer"  # name of the published embedding
    method: Literal["svd", "als"] = "svd"
    dim: int = Field(default=32, ge=1, le=1000)  # length of one vector
    tolerance: float = Field(
        default=5e-3, ge=1e-7
    )  # of the SVD: ‖XᵀXv − σ²v‖ / σ₁² at which a direction is good enough
    smoothing: float = Field(
        default=1.0, ge=0
    )  # of the SVD: what is added to row and column sums, in their means
    als: ALSSettings = ALSSettings()
    anchor_day: date | None = (
        None  # day whose coordinates the space keeps; default: the first day of the log
    )
    min_cosine: float = (
        0.5  # mean cosine to the anchor's vectors; below it the version opens a space of its own
    )
    seed: int = 0


class RankerSettings(Section):
    name: str = "ranker"  # name of the registered model
    start_day: date | None = None  # first day of the chain; default: the first day with impressions
    window_days: int = 14  # trailing days of examples trained on
    primary_label: str = "click"  # the label that the gate judges
    batch_size: int = 512
    learning_rate: float = 2e-3
    field_width: int = 8  # length of one feature's vector inside the ranker
    threads: int = (
        1  # of torch on a CPU; more are quicker on an idle machine and much slower on a busy one
    )
    bootstrap: int = 200  # resamples of users in the gate's interval
    seed: int = 0


class MLflowSettings(Section):
    uri: str = ""  # tracking server; empty: a database under home; "off": nothing is tracked


class RegistrySettings(Section):
    url: str = ""  # SQLAlchemy address of the catalog; empty: SQLite under home
    token: str = ""  # guards the service's writes


class ServiceSettings(Section):
    airflow_port: int = 8080
    mlflow_port: int = 5000
    registry_port: int = 8090
    spark_port: int = 15002
    live: bool = True  # the log grows: every midnight the day that has just ended is run. False: only days asked for


if TYPE_CHECKING:
    AnySource = SourceSettings
else:  # the kinds are the files of jobs/sources, which a type checker cannot know
    AnySource = settings_of_any_kind()


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="EVERGREEN_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    home: Path = Path(".evergreen")
    source: AnySource
    spark: SparkSettings = SparkSettings()
    validation: ValidationSettings = ValidationSettings()
    matrix: MatrixSettings = MatrixSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()
    ranker: RankerSettings = RankerSettings()
    mlflow: MLflowSettings = MLflowSettings()
    registry: RegistrySettings = RegistrySettings()
    services: ServiceSettings = ServiceSettings()

    @classmethod
    def settings_customise_sources(
        cls, settings_cls, init_settings, env_settings, dotenv_settings, file_secret_settings
    ):
        return env_settings, init_settings  # a variable wins over the file

    @property
    def lake(self):
        from jobs.lake.store import Lake

        return Lake(self.home / "lake")

    @property
    def registry_root(self) -> Path:
        return self.home / "registry"

    @property
    def registry_url(self) -> str:
        return self.registry.url or f"sqlite:///{self.registry_root / 'catalog.db'}"

    @property
    def mlflow_uri(self) -> str:
        return self.mlflow.uri or f"sqlite:///{self.home / 'mlflow' / 'mlflow.db'}"

    def report(self, step: str, day: date) -> Path:
        """Folder for what a person reads about a step and day (plots, data docs); attached to its MLflow run."""
        folder = self.home / "reports" / step / f"day={day}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def digest(self, *sections: str) -> str:
        """Digest of the named sections: the settings that shape a step's result."""
        chosen = {
            name: getattr(self, name).model_dump(mode="json", exclude={"path"}) for name in sections
        }
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:12]


def load_settings(path: Path | str | None = None) -> Settings:
    """Read the settings file named by the argument, by EVERGREEN_SETTINGS, or the project's own."""
    file = Path(path or os.environ.get("EVERGREEN_SETTINGS") or DEFAULT_FILE).resolve()
    try:
        raw = tomllib.loads(file.read_text())
    except FileNotFoundError:
        raise SettingsError(
            f"No settings file at {file}. Name one with --settings or EVERGREEN_SETTINGS."
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file} is not valid TOML: {error}.") from None
    try:
        settings = Settings(**raw)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg']} (given: {e['input']!r})"
            for e in error.errors()
        )
        raise SettingsError(
            f"{file}: {faults}. The options and their defaults are listed in jobs/settings.py."
        ) from None
    source = settings.source.model_copy(update={"path": file.parent / settings.source.path})
    return settings.model_copy(
        update={"home": (file.parent / settings.home).resolve(), "source": source}
    )


def days_between(first: date, last: date) -> list[date]:
    """Every day from first to last, both included."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]
