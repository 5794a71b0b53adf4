"""The tables of the settings file, one class each, with their options and defaults."""

from __future__ import annotations

import re
import socket
from datetime import date
from ipaddress import ip_address
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from jobs.machine import usable_cpus
from jobs.names import model_name
from jobs.plugins import PluginSection
from jobs.section import Section
from jobs.settings.addresses import in_url

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

    @field_validator("conf")
    @classmethod
    def _executors_stay(cls, conf: dict[str, str]) -> dict[str, str]:
        if conf.get("spark.dynamicAllocation.enabled", "").lower() == "true":
            raise ValueError(
                "with spark.dynamicAllocation.enabled = true Spark refuses barrier jobs, and one "
                "factorises the matrix. Leave it out, and name the number of executors instead "
                "(spark.executor.instances, or spark.cores.max on a standalone cluster)"
            )
        return conf


class ValidationSettings(Section):
    """When a day is trusted."""

    younger: ClassVar[frozenset[str]] = frozenset({"label_window_hours"})
    """Options that change no result at their defaults: lakes are older than these."""

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

    label_window_hours: float | None = Field(default=None, gt=0)
    """A label that became 1 later than so many hours after its impression counts as 0, so that the
    ranker predicts what happens within this time. Needs a log with the times of its labels
    (`source.label_times`); a label without a time counts. Default: all count."""


class MatrixSettings(Section):
    """Which engagements make the consumer-producer matrix, and how strongly each counts."""

    younger: ClassVar[frozenset[str]] = frozenset({"session_minutes"})

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

    max_strength_ratio: float = Field(default=50.0, ge=0)
    """A pair is as strong as its engagements together, but at most so many times as strong as what
    one pair of a hundred exceeds: a larger one would own the model. 0: no bound."""

    session_minutes: float = Field(default=0.0, ge=0, le=10_080)
    """A consumer's session ends with so many minutes without an engagement; an embedder that learns
    from sessions reads them. 0: the matrix has no sessions."""

    min_engagements: int = Field(default=2, ge=1)
    """A consumer with fewer engagements in the window is folded in instead of fitted."""

    weights: dict[str, Annotated[float, Field(ge=0, le=1e6)]] = Field(default_factory=dict)
    """Strength of one engagement by kind; a kind without an entry counts 1."""


class BenchmarkSettings(Section):
    """How versions are judged."""

    topic: str = "tag"
    """Category of the items that is their topic, without its `cat_`. Tasks about topics are skipped
    where the items have no such category."""

    lengths: list[Annotated[int, Field(ge=1)]] = Field(default_factory=list)
    """Shorter lengths of the vectors that are judged too, beside those of `embedding.lengths`: the
    first so many numbers of each. Each is below `embedding.dim`."""

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

    negatives_kept: float = Field(default=1.0, gt=0, le=1)
    """Share of the negatives that is trained on, for a long log with few positives. Every label
    keeps all of its positives, and probabilities stay those of the whole log."""

    threads: int = Field(default=1, ge=1, le=1024)
    """CPU threads: more are faster on an idle machine. A training then rounds differently; the test
    of a model, where each scores some rows and judges some labels, does not."""

    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """Of matrix products in training. auto: bfloat16 where the machine has instructions for it, so
    that results depend on the machine."""

    compiled: bool = False
    """Fuse training steps with torch.compile: half a minute a day, and a C++ compiler is needed."""

    id_buckets: int = Field(default=16_384, ge=1, lt=2**31)
    """Learned vectors of consumers, of producers and of items each. Ids are hashed to them: with
    more, fewer ids share one, and the tables take more memory."""

    admit_after: int = Field(default=0, ge=0)
    """Rows in which a category, such as an id, must have been read to get a vector of its own; the
    rarer ones of a column share one. Then the tables grow with what was read, not with
    `id_buckets`, which may be a million and more, so that ids do not share vectors by chance. 0:
    every bucket has a vector."""

    warm_start: bool = False
    """Go on from the model that was trained before the day, and learn only the days after it,
    instead of training anew on the whole window. Then every model depends on all before it."""

    warm_rate: float = Field(default=0.3, gt=0, le=1)
    """Share of `learning_rate` at which a model goes on; with `warm_start`."""

    evict_after_days: int | None = Field(default=None, ge=1)
    """A category that no training has read for so many days loses its vector; with `warm_start` and
    `admit_after`. Default: `window_days`."""

    tables: Literal["whole", "sharded"] = "whole"
    """Where several processes train together, each has the whole tables of ids, or a share of their
    rows: these may be larger than the memory of one GPU. Losses and weights are the same, so that
    nothing becomes stale. One process alone has whole tables."""

    bootstrap: int = Field(default=200, ge=1, le=1_000_000)
    """Resamples of users in the gate's confidence interval."""

    promotion: Literal["automatic", "by hand"] = "automatic"
    """Who promotes a challenger over a tested champion: the gate, or a person, who is asked in
    Airflow with the gate's comparison, or says it with `evergreen ranker promote`."""

    max_log_loss_rise: float = Field(default=0.05, ge=0)
    """A challenger whose log loss is significantly more than this share above the champion's is
    not promoted, whatever its AUC."""

    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of initial weights and resamples."""

    def effective(self) -> dict[str, Any]:
        """As of any plug-in, without what is younger than the lake and has changed no result."""
        options = super().effective()
        del options["weights"]  # nothing that is computed by day depends on them
        del options["tables"]  # nor on where they are
        if options["retrain"] == "daily":
            del options["retrain_delta"]  # it is not read
        if not options["warm_start"]:
            del options["warm_rate"]
        if not (options["warm_start"] and options["admit_after"]):
            del options["evict_after_days"]
        for name in (
            "retrain",
            "admit_after",
            "warm_start",
            "negatives_kept",
            "id_buckets",
            "precision",
            "compiled",
            "promotion",
            "max_log_loss_rise",
        ):
            if options[name] == type(self).model_fields[name].default:
                del options[name]
        return options


class MLflowSettings(Section):
    """Where runs and models are tracked."""

    uri: str = ""
    """Address of a tracking server. Empty: a database of this home; "off": no tracking."""


class RegistrySettings(Section):
    """Where versions are listed."""

    url: str = ""
    """SQLAlchemy address of the catalog. Empty: that of `[database]`, or SQLite under home."""

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
PORTS = ("airflow_port", "mlflow_port", "registry_port", "spark_port", "database_port")
Address = Annotated[str, Field(pattern=r"^(https?://[^\s/@]+)?$")]  # without a path or a login


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

    database_port: Port = 15432
    """Port of the PostgreSQL server below home, with `database.url = "local"`."""

    airflow_address: Address = ""
    """Where tasks reach Airflow, as in `http://airflow:8080`. Empty: on this machine."""

    mlflow_address: Address = ""
    """Where tasks reach our own MLflow, as in `http://mlflow:5000`. Empty: on this machine."""

    registry_address: Address = ""
    """Where tasks reach the registry, as in `http://registry:8090`. Empty: on this machine."""

    live: bool = True
    """Is the log still growing? Then every day runs when it has ended, and `lateness` is over."""

    log_format: Literal["text", "json"] = "text"
    """json: one JSON object a line from commands, the registry and Airflow, with the day and the
    step that a line is about."""

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
        for option in PORTS:
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

    @property
    def airflow_at(self) -> str:
        """Where a client reaches Airflow."""
        return self.airflow_address or self.address(self.airflow_port)

    @property
    def mlflow_at(self) -> str:
        """Where a client reaches our own MLflow."""
        return self.mlflow_address or self.address(self.mlflow_port)

    @property
    def registry_at(self) -> str:
        """Where a client reaches the registry."""
        return self.registry_address or self.address(self.registry_port)

    def public_address(self, port: int) -> str:
        """The address of one of their ports, for a browser that may run on another machine."""
        host = self.public_host
        if not host:
            # Where they listen on all addresses, its name stands for whichever can be reached.
            host = self.host if self.host == self.local_host else socket.gethostname()
        return f"http://{in_url(host)}:{port}"
