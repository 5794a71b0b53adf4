"""All settings and their defaults: one TOML file, environment variables over it.

`EVERGREEN_SETTINGS` names the file. A variable such as `EVERGREEN_SECTION__OPTION` overrides an
option, `EVERGREEN_HOME` the home. Paths are relative to the file, also those of SQLite addresses.
Unknown keys are refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import tomllib
from datetime import date, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from jobs.errors import SettingsError
from jobs.lake.schema import FEATURE_TABLES
from jobs.machine import usable_cpus
from jobs.names import model_name, near, published_name, require_names
from jobs.plugins import PluginSection, faults
from jobs.section import Section
from jobs.sources import settings_of_any_kind
from jobs.sources.base import SourceSettings

if TYPE_CHECKING:
    from embeddings.registry.client import Registry
    from jobs.lake.store import Lake

DEFAULT_FILE = Path(__file__).parent.parent / "evergreen.toml"
HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
SHORTEST_PASSWORD = 12  # characters; MLflow's own minimum


def cores_of(master: str) -> int | None:
    """How many tasks a Spark master runs at once; None for a cluster, which only Spark knows."""
    if master == "local":
        return 1
    if local := re.fullmatch(r"local\[\s*(\*|\d+)\s*(?:,.*)?\]", master):
        return usable_cpus() if local[1] == "*" else int(local[1])
    if small := re.fullmatch(r"local-cluster\[\s*(\d+)\s*,\s*(\d+)\s*,.*\]", master):
        return int(small[1]) * int(small[2])
    return None


def members_on(master: str) -> int:
    """The default of `spark.members`: two, or one where Spark has a single core."""
    return min(2, cores_of(master) or usable_cpus())


class SparkSettings(Section):
    """Where Spark runs and how much of it a step uses."""

    remote: str = ""
    """Spark Connect address, `sc://host:port/;token=…`. Empty: a classic session on `master`."""

    master: str = "local[*]"
    """Master of a classic session, or of the Connect server that `evergreen up` starts."""

    partitions: int = Field(default=2, ge=1, le=100_000)
    """Output files of a large table, shuffle partitions, and blocks of the matrix."""

    members: int = Field(default_factory=lambda given: members_on(given["master"]), ge=1)
    """Tasks of the job that factorises. All run at once: at most the number of Spark's cores."""

    driver_memory: str = Field(default="2g", pattern=r"^[1-9]\d*[kmgtKMGT]$")
    """Heap of a driver that Evergreen starts."""

    conf: dict[str, str] = Field(default_factory=dict)
    """Any Spark option, over Evergreen's own; applies to a driver on `master`, not to `remote`."""


class ValidationSettings(Section):
    """When a day is trusted."""

    max_bad_share: float = Field(default=0.05, ge=0, le=1)
    """Share of bad rows in a table above which the day is not trusted."""

    min_rows_share: float = Field(default=0.5, ge=0, le=1)
    """Share of the trailing median below which a day has too few rows. 0: quiet days are normal."""

    median_days: int = Field(default=7, ge=1, le=3660)
    """Days in the trailing median of row counts."""

    median_min_days: int = Field(default=3, ge=1)
    """With fewer preceding days than this, the row count is not judged."""

    max_value_ratio: float = Field(default=2000.0, ge=0)
    """A `value` above so many times the median of its kind on that day is quarantined: one such
    value would own the model. 0: any value is good."""

    max_id_bytes: int = Field(default=256, ge=1, le=10_000)
    """Bytes of the longest good id: every id takes as much memory as the longest one."""

    repeats: Literal["key", "all", "none"] = "key"
    """Which rows repeat an earlier one, and are quarantined: those with the same ids, kind and time
    ("key"), those that are the same in all columns ("all"), or none."""

    merge_labels: bool = False
    """Make one row of all impressions with the same ids and time, with the maximum of each label,
    for a log in which a click is a second row of its impression."""


class MatrixSettings(Section):
    """Which engagements make the consumer-producer matrix, and how strongly each counts."""

    window_days: int = Field(default=14, ge=1, le=3660)
    """Trailing days whose engagements count, the day itself included."""

    half_life_days: float = Field(default=0.0, ge=0.0)
    """An engagement so many days before the last one counts half as much, also in the nightly
    fold-in. 0: all count the same."""

    producers: int = Field(default=5000, ge=1)
    """The most popular N producers are the columns of the matrix."""

    drop_top: int = Field(default=0, ge=0)
    """The most popular T producers are left out; the N of `producers` follow them."""

    rank_by: str = ""
    """Kind of engagement that ranks producers, such as "follow". Empty: any kind."""

    min_engagements: int = Field(default=2, ge=1)
    """A consumer with fewer engagements in the window is folded in instead of fitted."""

    weights: dict[str, Annotated[float, Field(ge=0, le=1e6)]] = Field(default_factory=dict)
    """Strength of one engagement by kind; a kind without an entry counts 1."""


class EmbeddingSettings(PluginSection):
    """What is embedded, and by which embedder; its options are in `[embedding.<method>]`."""

    family: ClassVar[str] = "embeddings.embedders"
    marker: ClassVar[str] = "EMBEDDER"
    chooser: ClassVar[str] = "method"

    name: str = "producer"
    """Name of the published embedding."""

    @field_validator("name")
    @classmethod
    def _validate_name(cls, name: str) -> str:
        if name in FEATURE_TABLES:
            raise ValueError(f"'{name}' is a table of features: choose another name")
        return published_name(name)

    method: str = "svd"
    """The embedder: a file of embeddings/embedders/, such as "svd", "als", "cooccurrence" or
    "towers"."""

    dim: int = Field(default=32, ge=1, le=1000)
    """Length of one vector."""

    anchor_day: date | None = None
    """First day of the first space. Default: the first day of the log."""

    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the solver."""


class BenchmarkSettings(Section):
    """How versions are judged."""

    topic: str = "tag"
    """Category of the items that is their topic, without its `cat_`. Tasks about topics are skipped
    where the items have no such category."""

    lengths: list[Annotated[int, Field(ge=1)]] = Field(default_factory=list)
    """Shorter lengths of the vectors that are judged too: the first so many numbers of each. Each
    is below `embedding.dim`."""

    @property
    def topic_column(self) -> str:
        """The column of the table of items."""
        return f"cat_{self.topic}"


class RankerSettings(PluginSection):
    """How the ranker is trained and compared; the network's options are in `[ranker.<kind>]`."""

    family: ClassVar[str] = "models.rankers"
    marker: ClassVar[str] = "RANKER"
    chooser: ClassVar[str] = "kind"

    kind: str = "masknet"
    """The ranker: a file of models/rankers/."""

    name: Annotated[str, AfterValidator(model_name)] = "ranker"
    """Name of the registered model."""

    start_day: date | None = None
    """First day of the chain of rankers. Default: the first day with impressions."""

    window_days: int = Field(default=14, ge=1, le=3660)
    """Trailing days of examples that a model is trained on."""

    primary_label: str = "click"
    """The label that decides about promotion."""

    weights: dict[str, float] = Field(default_factory=dict)
    """Weight of each label's probability in the score that recommendations are ranked by. Empty:
    `primary_label` alone. A change concerns serving only, and makes nothing stale."""

    retrain: Literal["daily", "when it pays"] = "daily"
    """Which days train a ranker: every one, or those on which the loss that is expected of a day
    without is at least `retrain_delta`. It is expected from what older rankers have lost so far."""

    retrain_delta: float = Field(default=0.01, ge=0)
    """Loss of AUC of the primary label from which a training pays; with `retrain = "when it
    pays"`."""

    batch_size: int = Field(default=512, ge=1)
    """Rows of one training step."""

    learning_rate: float = Field(default=2e-3, gt=0, le=10)
    """Peak learning rate of Adam."""

    threads: int = Field(default=1, ge=1, le=1024)
    """CPU threads of torch: more are faster on an idle machine, and round differently."""

    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """Of matrix products in training. auto: bfloat16 where the machine has instructions for it, so
    that results depend on the machine."""

    compiled: bool = False
    """Fuse training steps with torch.compile: half a minute a day, and a C++ compiler is needed."""

    bootstrap: int = Field(default=200, ge=1, le=1_000_000)
    """Resamples of users in the gate's confidence interval."""

    promotion: Literal["automatic", "by hand"] = "automatic"
    """Who promotes a challenger over a tested champion: the gate, or a person with `evergreen
    ranker promote`, who finds the gate's comparison in the decision."""

    max_log_loss_rise: float = Field(default=0.05, ge=0)
    """A challenger whose log loss is significantly more than this share above the champion's is
    not promoted, whatever its AUC."""

    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of initial weights and resamples."""

    def effective(self) -> dict[str, Any]:
        """As of any plug-in, without what is younger than the lake and has changed no result."""
        options = super().effective()
        del options["weights"]  # nothing that is computed by day depends on them
        if options["retrain"] == "daily":
            del options["retrain_delta"]  # it is not read
        for name in ("retrain", "precision", "compiled", "promotion", "max_log_loss_rise"):
            if options[name] == type(self).model_fields[name].default:
                del options[name]
        return options


class MLflowSettings(Section):
    """Where runs and models are tracked."""

    uri: str = ""
    """Address of a tracking server. Empty: a database under home; "off": no tracking."""


class RegistrySettings(Section):
    """Where versions are listed."""

    url: str = ""
    """SQLAlchemy address of the catalog. Empty: SQLite under home."""

    token: str = ""
    """Token that the service demands for writes. Empty: drawn once per home."""

    index_above: int = Field(default=200_000, ge=0)
    """Vectors of an entity above which a version is published with an approximate index of them.
    0: never. A change takes effect with the next publication of a day."""

    verify_gb: float = Field(default=20, ge=0, le=1e6)
    """Gigabytes of published files whose bytes the watch compares with their digests every day,
    beginning with those that were not for longest. 0: none."""

    min_recall: float = Field(default=0.95, ge=0, le=1)
    """Smallest recall of an index, among the 10 and the 100 nearest; one that finds less is not
    published, and neither is its version."""


Port = Annotated[int, Field(ge=1, le=65535)]


class ServiceSettings(Section):
    """The services of `evergreen up` on one machine, bound to loopback by default."""

    host: str = "127.0.0.1"
    """IP address of this machine on which Airflow, MLflow and the registry listen; `0.0.0.0`: all
    of them. One that other machines can reach needs a `password`. Spark stays on loopback."""

    public_host: str = ""
    """Name or address of this machine in links to the services, for people on other machines.
    Empty: its host name where the services listen on all addresses, else `host`."""

    password: SecretStr = SecretStr("")
    """Password of the user `evergreen` in Airflow and MLflow. Empty: no login, on loopback only.
    Set it as `EVERGREEN_SERVICES__PASSWORD`, or in a settings file that only you can read."""

    airflow_port: Port = 8080
    """Port of Airflow."""

    mlflow_port: Port = 5000
    """Port of MLflow."""

    registry_port: Port = 8090
    """Port of the registry."""

    spark_port: Port = 15002
    """Port of the Spark Connect server."""

    live: bool = True
    """Is the log still growing? Then every day runs when it has ended, and `lateness` is over."""

    lateness: float = Field(default=0.0, ge=0.0, lt=24.0)
    """Hours after the end of a day by which its rows are expected; the day runs then."""

    @field_validator("host")
    @classmethod
    def _validate_host(cls, host: str) -> str:
        try:
            if "%" in host:  # the name of an interface, which a command line would read
                raise ValueError
            return str(ip_address("127.0.0.1" if host == "localhost" else host))
        except ValueError:
            raise ValueError(
                "expected an IP address of this machine, without a port, or 0.0.0.0 for all of them"
            ) from None

    @field_validator("public_host")
    @classmethod
    def _validate_public_host(cls, host: str) -> str:
        if host and not HOST_NAME.fullmatch(host):
            try:
                return str(ip_address(host))
            except ValueError:
                raise ValueError(
                    "expected a host name or an IP address, without a scheme or a port"
                ) from None
        return host

    @field_validator("password")
    @classmethod
    def _validate_password(cls, password: SecretStr) -> SecretStr:
        # HTTP clients disagree on how to encode other characters in a login.
        text = password.get_secret_value()
        printable = text.isascii() and text.isprintable()
        if text and not (printable and len(text) >= SHORTEST_PASSWORD):
            raise ValueError(f"expected at least {SHORTEST_PASSWORD} printable ASCII characters")
        return password

    @model_validator(mode="after")
    def _validate_ports(self) -> ServiceSettings:
        services: dict[int, str] = {}
        for option in ("airflow_port", "mlflow_port", "registry_port", "spark_port"):
            port = getattr(self, option)
            if port in services:
                raise ValueError(
                    f"{services[port]} and {option} are both {port}: give each service its own"
                )
            services[port] = option
        return self

    @property
    def beyond_loopback(self) -> bool:
        """Do the services listen on an address that other machines may reach?"""
        return not ip_address(self.host).is_loopback

    @property
    def local_host(self) -> str:
        """Where a client on this machine reaches them."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)

    def address(self, port: int) -> str:
        """The address of one of their ports, for a client on this machine."""
        return f"http://{in_url(self.local_host)}:{port}"

    def public_address(self, port: int) -> str:
        """The address of one of their ports, for a browser that may run on another machine."""
        host = self.public_host
        if not host:
            # Where they listen on all addresses, its name stands for whichever can be reached.
            host = self.host if self.host == self.local_host else socket.gethostname()
        return f"http://{in_url(host)}:{port}"


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
    """Folder of all state: lake, registry, reports, logs, MLflow and Airflow databases."""

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
    mlflow: MLflowSettings = MLflowSettings()
    registry: RegistrySettings = RegistrySettings()
    services: ServiceSettings = ServiceSettings()

    # The further embedding that these settings are of; "": the first. See `of_embedding`.
    _further: str = PrivateAttr(default="")

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
        for name, embedding in {"embedding": self.embedding, **self.further}.items():
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

        return Lake(self.home / "lake", self._further, LEARNING_STEPS)

    @property
    def intake(self) -> Path:
        """Folder of what was read of the log's files."""
        return self.home / "intake"

    @property
    def registry_root(self) -> Path:
        return self.home / "registry"

    @property
    def registry_url(self) -> str:
        return self.registry.url or sqlite_address(self.registry_root / "catalog.db")

    @property
    def mlflow_uri(self) -> str:
        return self.mlflow.uri or sqlite_address(self.home / "mlflow" / "mlflow.db")

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
        if isinstance(section, PluginSection):
            return section.effective()
        if isinstance(section, dict):
            return {key: table.effective() for key, table in section.items()}
        shapeless: frozenset[str] = getattr(section, "shapeless", frozenset())
        return section.model_dump(mode="json", exclude={"path", *shapeless})

    def digest(self, *sections: str) -> str:
        """Digest of the named sections: the settings that shape a step's result."""
        # Sorted, so that the order of the fields in this file does not matter.
        chosen = {name: self.section(name) for name in sections}
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:12]

    def open_registry(self) -> Registry:
        """The registry that the settings name."""
        from embeddings.registry.client import Registry

        return Registry(self.registry_root, self.registry_url)


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
    refuse_readable_password(file, raw)
    refuse_misspelt_variables()
    try:
        settings = Settings(**raw)
    except ValidationError as error:
        raise SettingsError(
            f"{file}: {faults(error, model=Settings)}. `make docs` builds a reference of all "
            "options, site/reference/settings.html."
        ) from None
    return anchored(settings, file.parent)


# Variables of this name that are no settings: of the services, of experiments and of tests.
OTHER_VARIABLES = frozenset(
    f"EVERGREEN_{name}"
    for name in (
        "DATA",
        "FURTHER_NAMES",
        "LAST_DAY",
        "LATENESS",
        "PAGES",
        "PRELOAD",
        "REGISTRY_CATALOG_URL",
        "REGISTRY_ROOT",
        "REGISTRY_TOKEN",
        "SETTINGS",
        "STORM",
        "TIMEZONE",
    )
)


def refuse_misspelt_variables() -> None:
    """Raise SettingsError for a variable that would set an option, were it spelt right.

    The options of a section that exists are checked with those of the file.
    """
    known = variables()
    for variable in sorted(os.environ):
        name = variable.upper()
        if not name.startswith("EVERGREEN_") or name in OTHER_VARIABLES:
            continue
        section, separator, option = name.removeprefix("EVERGREEN_").partition("__")
        if section.lower() in Settings.model_fields:
            continue
        if separator:
            sections = [field.upper() for field in Settings.model_fields]
            rename = [f"EVERGREEN_{close}__{option}" for close in near(section, sections)]
        else:
            # Other programs may have variables of their own: only one that is nearly ours is ours.
            alike = {text.replace("__", "_"): text for text in known}
            rename = [alike[close] for close in near(name, list(alike), cutoff=0.9)]
            if not rename:
                continue
        suggestion = f" Did you mean {rename[0]}?" if rename else ""
        raise SettingsError(
            f"The environment variable {variable} sets no option of Evergreen.{suggestion} "
            "Correct its name, or unset it."
        )


def variables() -> list[str]:
    """The environment variables of all options that do not depend on a plug-in."""
    found = []
    for section, info in Settings.model_fields.items():
        options = getattr(info.annotation, "model_fields", {})
        found += [f"EVERGREEN_{section}__{option}".upper() for option in options]
        found.append(f"EVERGREEN_{section}".upper())
    return found


def refuse_readable_password(file: Path, raw: dict[str, Any]) -> None:
    """Raise SettingsError where a settings file holds a password that other users can read."""
    services = raw.get("services")
    holds_one = isinstance(services, dict) and services.get("password")
    if holds_one and file.stat().st_mode & 0o077:
        raise SettingsError(
            f"{file} holds services.password, and other users can read it. Run `chmod 600 {file}`, "
            "or set EVERGREEN_SERVICES__PASSWORD instead."
        )


def in_url(host: str) -> str:
    """An IP address as a URL has it: version 6 in brackets."""
    return f"[{host}]" if ":" in host else host


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
    return settings.model_copy(
        update={"home": home, "source": source, "mlflow": mlflow, "registry": registry}
    )


def anchored_sqlite(address: str, folder: Path) -> str:
    """An SQLAlchemy address whose relative SQLite path is below the folder; others unchanged."""
    match = re.fullmatch(r"(sqlite(?:\+\w+)?:///)(file:)?([^?]*)(\?.*)?", address, re.DOTALL)
    if match is None:  # another database, or SQLite in memory, "sqlite://"
        return address
    scheme, file, path, query = (part or "" for part in match.groups())
    if path in ("", ":memory:") or "mode=memory" in query:
        return address
    if Path(path).is_absolute():
        return address
    # The user's part of the path is written as in an address already, that of the folder is not.
    below = in_address(str(folder))
    if file:  # SQLite reads an address in the address
        below = in_address(below)
    return f"{scheme}{file}{below}/{path}{query}"


def sqlite_address(file: Path) -> str:
    """The SQLAlchemy address of a SQLite file, whatever characters its path has."""
    return f"sqlite:///{in_address(str(file))}"


def in_address(path: str) -> str:
    """A path as SQLAlchemy has it in an address: with what it reads otherwise escaped."""
    return path.replace("%", "%25").replace("?", "%3F")


def days_between(first: date, last: date) -> list[date]:
    """Every day from first to last, both included."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]
