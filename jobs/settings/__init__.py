"""All settings and their defaults: one TOML file, environment variables over it.

`EVERGREEN_SETTINGS` names the file. A variable such as `EVERGREEN_SECTION__OPTION` overrides an
option, `EVERGREEN_HOME` the home. Paths are relative to the file, also those of SQLite addresses.
Unknown keys are refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from embeddings.storage.place import Place
from jobs.errors import SettingsError
from jobs.names import require_names
from jobs.plugins import PluginSection, faults
from jobs.settings.addresses import anchored_sqlite, in_url, sqlite_address
from jobs.settings.database import DatabaseSettings, server_address, sqlite_database
from jobs.settings.embedding import EmbeddingSettings
from jobs.settings.guardrails import GuardrailSettings
from jobs.settings.sections import (
    SHORTEST_PASSWORD,
    BenchmarkSettings,
    MatrixSettings,
    MLflowSettings,
    RankerSettings,
    RegistrySettings,
    ServiceSettings,
    SparkSettings,
    ValidationSettings,
    cores_of,
)
from jobs.settings.storage import StorageSettings
from jobs.settings.tuning import TuningSettings
from jobs.settings.variables import refuse_misspelt_variables
from jobs.settings.words import WordsSettings
from jobs.sources import settings_of_any_kind
from jobs.sources.base import SourceSettings

if TYPE_CHECKING:
    from embeddings.registry.client import Registry
    from jobs.lake.store import Lake

__all__ = [
    "DEFAULT_FILE",
    "SHORTEST_PASSWORD",
    "BenchmarkSettings",
    "DatabaseSettings",
    "EmbeddingSettings",
    "MLflowSettings",
    "MatrixSettings",
    "RankerSettings",
    "RegistrySettings",
    "ServiceSettings",
    "Settings",
    "SparkSettings",
    "StorageSettings",
    "ValidationSettings",
    "WordsSettings",
    "anchored",
    "cores_of",
    "days_between",
    "in_url",
    "load_settings",
    "settings_file",
    "sqlite_address",
]

DEFAULT_FILE = Path(__file__).parent.parent.parent / "evergreen.toml"


if TYPE_CHECKING:
    AnySource = SourceSettings
else:
    # The kinds are the files of jobs/sources, which a type checker cannot know.
    AnySource = settings_of_any_kind()


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix="EVERGREEN_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
        use_attribute_docstrings=True,
    )

    home: Path = Path(".evergreen")
    """Folder of all state: lake, registry, reports, logs, MLflow and Airflow databases. Lake and
    registry may be in a bucket instead, see `[storage]`."""

    source: AnySource
    """The log; its other options depend on its kind."""

    # A factory: the options of a default instance would count as given, also `members`, whose
    # default follows `master`.
    spark: SparkSettings = Field(default_factory=SparkSettings)
    validation: ValidationSettings = ValidationSettings()
    matrix: MatrixSettings = MatrixSettings()
    embedding: EmbeddingSettings = EmbeddingSettings()

    further: dict[str, EmbeddingSettings] = Field(default_factory=dict)
    """Further embeddings of the same matrix, by name: `[further.NAME]` has the options of
    `[embedding]`. Each is fitted, judged and published beside the first, on whose vectors the
    ranker is trained."""

    benchmark: BenchmarkSettings = BenchmarkSettings()
    ranker: RankerSettings = RankerSettings()
    guardrails: GuardrailSettings = GuardrailSettings()
    tuning: TuningSettings = TuningSettings()
    mlflow: MLflowSettings = MLflowSettings()
    storage: StorageSettings = StorageSettings()
    registry: RegistrySettings = RegistrySettings()
    database: DatabaseSettings = DatabaseSettings()
    services: ServiceSettings = ServiceSettings()

    words: WordsSettings | None = None
    """Texts whose words are embedded every week; without this table there are none."""

    # The further embedding that these settings are of; "": the first. See `of_embedding`.
    _further: str = PrivateAttr(default="")
    # What `lake` is instead of a new look; see `looking`.
    _look: Place | None = PrivateAttr(default=None)

    @field_validator("home")
    @classmethod
    def _validate_home(cls, home: Path) -> Path:
        if not str(home).isprintable():
            raise ValueError("expected a path without line breaks and other control characters")
        return home

    @field_validator("source")
    @classmethod
    def _validate_names(cls, source: SourceSettings) -> SourceSettings:
        # Of any source that lets its user name labels and contexts.
        require_names("labels", getattr(source, "labels", ()))
        require_names("context", getattr(source, "context", ()))
        return source

    @field_validator("further", mode="before")
    @classmethod
    def _name_further(cls, further: Any) -> Any:
        """The name of a table is the name of its embedding."""
        if not isinstance(further, dict):
            return further
        named = {}
        for name, table in further.items():
            if isinstance(table, dict):
                if table.get("name", name) != name:
                    raise ValueError(f"{name}.name: the name of the table is that of the embedding")
                table = {**table, "name": name}
            named[name] = table
        return named

    @model_validator(mode="after")
    def _validate_embeddings(self) -> Settings:
        if self.embedding.name in self.further and not self._further:
            raise ValueError(
                f"further.{self.embedding.name}: [embedding] has this name; choose another one"
            )
        if self.words is not None and self.words.name in (self.embedding.name, *self.further):
            raise ValueError(
                f"words.name: an embedding has the name {self.words.name}; choose another one"
            )
        for name, embedding in {"embedding": self.embedding, **self.further}.items():
            if embedding.learns_from_sessions and not self.matrix.session_minutes:
                option = "embedding" if name == "embedding" else f"further.{name}"
                raise ValueError(
                    f'{option}.cooccurrence.pairs is "sessions"; expected matrix.session_minutes '
                    "above 0, the pause that ends a session"
                )
            too_long = [n for n in self.benchmark.lengths if n >= embedding.dim]
            if too_long:
                option = "embedding.dim" if name == "embedding" else f"further.{name}.dim"
                raise ValueError(
                    f"benchmark.lengths has {too_long}; expected lengths below {option}, "
                    f"which is {embedding.dim}"
                )
        return self

    @classmethod
    def settings_customise_sources(
        cls, settings_cls, init_settings, env_settings, dotenv_settings, file_secret_settings
    ):
        # The file arrives as arguments of the constructor; the first source wins.
        return env_settings, init_settings

    def of_embedding(self, name: str) -> Settings:
        """The settings by which the steps of one embedding run: `embedding` and `lake` are its own.

        name: of a further embedding; that of the first one, or "", returns these settings. Raises
        SettingsError for any other.
        """
        if name in ("", self.embedding.name):
            return self
        if name not in self.further:
            known = ", ".join([self.embedding.name, *self.further])
            raise SettingsError(f"There is no embedding '{name}'. The settings have: {known}.")
        chosen = self.model_copy(update={"embedding": self.further[name]})
        chosen._further = name
        return chosen

    def of_each_embedding(self) -> list[Settings]:
        """These settings, and those of every further embedding."""
        return [self, *(self.of_embedding(name) for name in self.further)]

    @property
    def is_first(self) -> bool:
        """Are these the settings of the first embedding, which the ranker is trained on?"""
        return not self._further

    @property
    def lake(self) -> Lake:
        from jobs.lake.store import Lake
        from jobs.parts import LEARNING_STEPS

        place = self._look or self.storage.place(self.home, "lake", self.home / "lake")
        return Lake(place, self._further, LEARNING_STEPS)

    def looking(self) -> Settings:
        """The same settings, whose `lake` is as it is now: to judge much of it without asking a
        bucket for the same manifests again and again."""
        chosen = self.model_copy()
        chosen._look = self.lake.place.looking()
        return chosen

    @property
    def intake(self) -> Path:
        """Folder of what was read of the log's files."""
        return self.home / "intake"

    @property
    def registry_root(self) -> Path:
        return self.home / "registry"

    def database_address(self, name: str) -> str:
        """The SQLAlchemy address of a database: airflow, mlflow, registry or tuning."""
        if self.database.url:
            return self.on_server(self.database.named(name))
        return sqlite_database(self.home, name)

    def on_server(self, name: str) -> str:
        """The SQLAlchemy address of any database on the server of `database.url`."""
        return server_address(self.database, self.home, self.services.database_port, name)

    @property
    def registry_place(self) -> Place:
        """Where the files of versions are."""
        return self.storage.place(self.home, "registry", self.registry_root / "versions")

    @property
    def registry_url(self) -> str:
        return self.registry.url or self.database_address("registry")

    @property
    def mlflow_uri(self) -> str:
        return self.mlflow.uri or self.database_address("mlflow")

    def report(self, step: str, day: date) -> Path:
        """Folder of what a person reads about a step and day; attached to its MLflow run."""
        folder = self.home / "reports" / self.lake.folder(step) / f"day={day}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def section(self, name: str) -> dict[str, Any]:
        """The options of a section that shape a result, as JSON.

        Without the path of the log, which may move without invalidating any result, and without
        what else shapes no row of it.
        """
        section = getattr(self, name)
        if section is None:
            return {}
        if isinstance(section, PluginSection):
            return section.effective()
        if isinstance(section, dict):
            return {key: table.effective() for key, table in section.items()}
        shapeless: frozenset[str] = getattr(section, "shapeless", frozenset())
        unused = {
            name
            for name in getattr(section, "younger", ())
            if getattr(section, name) == type(section).model_fields[name].default
        }
        return section.model_dump(mode="json", exclude={"path", *shapeless, *unused})

    def digest(self, *sections: str) -> str:
        """Digest of the named sections: the settings that shape a step's result."""
        # Sorted, so that the order of the fields in this file does not matter.
        chosen = {name: self.section(name) for name in sections}
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:12]

    def open_registry(self) -> Registry:
        """The registry that the settings name."""
        from embeddings.registry.client import Registry

        return Registry(self.registry_root, self.registry_url, self.registry_place)


def settings_file(path: Path | str | None = None) -> Path:
    """The file named by the argument, by EVERGREEN_SETTINGS, or the project's own."""
    return Path(path or os.environ.get("EVERGREEN_SETTINGS") or DEFAULT_FILE).resolve()


def load_settings(path: Path | str | None = None) -> Settings:
    """Read the settings of `settings_file`."""
    file = settings_file(path)
    try:
        raw = tomllib.loads(file.read_text())
    except FileNotFoundError:
        raise SettingsError(
            f"No settings file at {file}. Name one with --settings or EVERGREEN_SETTINGS."
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file} is not valid TOML: {error}.") from None
    refuse_readable_password(file, raw)
    refuse_misspelt_variables(Settings)
    try:
        settings = Settings(**raw)
    except ValidationError as error:
        raise SettingsError(
            f"{file}: {faults(error, model=Settings)}. `make docs` builds a reference of all "
            "options, site/reference/settings.html."
        ) from None
    return anchored(settings, file.parent)


# Variables of this name that are no settings: of the services, of experiments and of tests.


def refuse_readable_password(file: Path, raw: dict[str, Any]) -> None:
    """Raise SettingsError where a settings file holds a password that other users can read."""
    services = raw.get("services")
    holds_one = isinstance(services, dict) and services.get("password")
    if holds_one and file.stat().st_mode & 0o077:
        raise SettingsError(
            f"{file} holds services.password, and other users can read it. Run `chmod 600 {file}`, "
            "or set EVERGREEN_SERVICES__PASSWORD instead."
        )


def anchored(settings: Settings, folder: Path) -> Settings:
    """The settings with every relative path below the folder of their file.

    The working directory differs between a shell, the services and an Airflow task. An absolute
    path stays as it is.
    """
    source = settings.source.model_copy(update={"path": folder / settings.source.path})
    mlflow = settings.mlflow.model_copy(
        update={"uri": anchored_sqlite(settings.mlflow.uri, folder)}
    )
    url = anchored_sqlite(settings.registry.url, folder)
    registry = settings.registry.model_copy(update={"url": url})
    home = (folder / settings.home).resolve()
    words = settings.words
    if words is not None:
        words = words.model_copy(update={"path": folder / words.path})
    sections = {"source": source, "mlflow": mlflow, "registry": registry, "words": words}
    return settings.model_copy(update={"home": home, **sections})


def days_between(first: date, last: date) -> list[date]:
    """Every day from first to last, both included."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]
