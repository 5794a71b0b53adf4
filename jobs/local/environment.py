"""The environment variables of every service and every task of one home.

A variable is either fixed or a default:

- **fixed** variables tie the processes of one home to each other (folders, ports, addresses,
  secrets) and always have the value given here. They are derived from the settings, which already
  include what the user has set in the file or as EVERGREEN_…
- **default** variables are our choices and tuning, and apply only where the user has not set them.

Two homes with different ports can run side by side.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
import sys
from base64 import urlsafe_b64encode
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from jobs import tracing
from jobs.errors import EvergreenError, SettingsError
from jobs.local.access import ALL_ADMINS, USER, check_access, page_addresses
from jobs.local.pages import mlflow_page, registry_page
from jobs.settings import Settings, settings_file
from jobs.sources import open_source

ROOT = Path(__file__).parents[2]
# Our queries are many and short, and the cores few: without the optimising compiler and with the
# simplest collector Spark takes a quarter less CPU (docs/decisions/0007).
SMALL_JVM = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
SECRETS = ("spark", "registry", "airflow", "fernet")  # the last one is Airflow's encryption key
AIRFLOW_DATABASE = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
# Of one writer for another. By default it is 5 s, and Airflow answers with status 500 after them.
SQLITE_PATIENCE_S = 20
CONNECT_OPTIONS = {"token", "user_id", "use_ssl"}  # those that an Airflow connection can hold


class SecretsError(EvergreenError):
    """The file of a home's secrets cannot be used; the message has the remedy."""


@dataclass
class Variables:
    """The variables of one part: fixed ones, and defaults for what the user has not set."""

    fixed: dict[str, str] = field(default_factory=dict)
    defaults: dict[str, str] = field(default_factory=dict)


def environment(settings: Settings) -> dict[str, str]:
    """The variables of every service and task, on top of those of this process.

    Raises SettingsError where `check_access` does.
    """
    check_access(settings.services)
    keys = home_secrets(settings.home)
    for folder in ("airflow", "mlflow", "registry"):
        (settings.home / folder).mkdir(parents=True, exist_ok=True)
    parts = [
        evergreen(settings),
        storage(settings),
        spark(settings, keys),
        mlflow(settings),
        mlflow_login(settings, keys),
        registry(settings, keys),
        airflow(settings, keys),
        airflow_login(settings, keys),
        airflow_observed(settings),
    ]
    env = dict(os.environ)
    for part in parts:
        env = part.defaults | env | part.fixed
    return env


def evergreen(settings: Settings) -> Variables:
    """Where our code, its settings and its home are."""
    fixed = {
        # The commands of this installation first, whatever else is on the path.
        "PATH": prepended(Path(sys.executable).parent, "PATH"),
        "PYTHONPATH": prepended(ROOT / "infra" / "airflow", "PYTHONPATH"),
        "EVERGREEN_SETTINGS": str(settings_file()),
        "EVERGREEN_HOME": str(settings.home),
        # For the DAG files, which are parsed too often to load the settings.
        "EVERGREEN_TIMEZONE": open_source(settings).timezone,
        "EVERGREEN_LATENESS": str(settings.services.lateness),
        "EVERGREEN_FURTHER_NAMES": ",".join(settings.further),
        "EVERGREEN_PROMOTION": settings.ranker.promotion,
        "EVERGREEN_WEEKLY": settings.words.name if settings.words is not None else "",
        "SERVICES_HOST": settings.services.host,
        "DATABASE_PORT": str(settings.services.database_port),  # of the server below home
    }
    defaults = {
        "PYTHONUNBUFFERED": "1",  # a log shows a line when it is printed
        "GX_ANALYTICS_ENABLED": "false",
    }
    if not settings.services.live:
        last_day = open_source(settings).span()[1]
        defaults["EVERGREEN_LAST_DAY"] = str(last_day)
    return Variables(fixed, defaults)


def storage(settings: Settings) -> Variables:
    """The port of our own S3 server, if there is one."""
    port = settings.storage.serve_port if settings.storage.serve else None
    return Variables(fixed={"STORE_PORT": str(port or "")})


def spark(settings: Settings, keys: dict[str, str]) -> Variables:
    """The Spark that the tasks use: the remote of the settings, or our own Connect server."""
    variables = Variables(
        defaults={
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_SUBMIT_OPTS": SMALL_JVM,
            "PYSPARK_PYTHON": sys.executable,
        }
    )
    remote = settings.spark.remote
    if not remote:
        # Spark's clients accept a token without TLS only for the host name "localhost".
        remote = f"sc://localhost:{settings.services.spark_port}/;token={keys['spark']}"
        # Only for our own server: a client would also send it to another one.
        variables.fixed["SPARK_CONNECT_AUTHENTICATE_TOKEN"] = keys["spark"]
    variables.fixed["EVERGREEN_SPARK__REMOTE"] = remote
    # A connection that the user has defined may be anything that @task.pyspark accepts.
    if "AIRFLOW_CONN_SPARK" not in os.environ:
        variables.fixed["AIRFLOW_CONN_SPARK"] = json.dumps(spark_connection(remote))
    return variables


def spark_connection(remote: str) -> dict:
    """The Airflow connection of a Spark Connect address, sc://HOST[:PORT][/;NAME=VALUE;…].

    Raises SettingsError where `remote` is no such address, or has an option that a connection of
    the Spark provider has no field for.
    """
    url = urlsplit(remote)
    if url.scheme != "sc" or not url.netloc:
        raise SettingsError(
            f"spark.remote is '{without_secrets(remote)}'; the services need the address of a "
            "Spark Connect server, such as sc://spark.example.org:15002/;token=…"
        )
    options = {}
    for option in url.path.strip("/").split(";"):
        name, equals, value = option.partition("=")
        if equals:
            options[name] = unquote(value)
    unsupported = sorted(options.keys() - CONNECT_OPTIONS)
    if unsupported:
        raise SettingsError(
            f"spark.remote has the options {unsupported}, which an Airflow connection cannot hold; "
            f"it can hold {sorted(CONNECT_OPTIONS)}. Remove the others, or define the connection "
            "yourself as AIRFLOW_CONN_SPARK."
        )
    connection: dict = {"conn_type": "spark_connect", "host": f"sc://{url.netloc}"}
    if "token" in options:
        connection["password"] = options["token"]
    if "user_id" in options:
        connection["login"] = options["user_id"]
    if "use_ssl" in options:
        connection["extra"] = {"use_ssl": options["use_ssl"].lower() == "true"}
    return connection


def mlflow(settings: Settings) -> Variables:
    """The tracking server that the tasks report to: `mlflow.uri`, or our own."""
    fixed = {
        "MLFLOW_PORT": str(settings.services.mlflow_port),
        "MLFLOW_DATABASE": settings.database_address("mlflow"),
        "EVERGREEN_MLFLOW__URI": settings.mlflow.uri or settings.services.mlflow_at,
    }
    defaults = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # halves the memory of the server
        "GIT_PYTHON_REFRESH": "quiet",  # no warning where git is not installed
        "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "4",  # docs/operations.md counts all connections
        "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": "4",
    }
    return Variables(fixed, defaults)


def mlflow_login(settings: Settings, keys: dict[str, str]) -> Variables:
    """The login of our own MLflow server: what it demands, and what the tasks present."""
    variables = Variables(fixed={"MLFLOW_LOGIN_OPTIONS": ""})
    password = settings.services.password.get_secret_value()
    if not password or settings.mlflow.uri:
        return variables
    variables.fixed |= {
        "MLFLOW_LOGIN_OPTIONS": "--app-name basic-auth",
        "MLFLOW_AUTH_CONFIG_PATH": str(ROOT / "infra" / "mlflow_auth.ini"),
        "MLFLOW_AUTH_ADMIN_USERNAME": USER,
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        "MLFLOW_BASIC_AUTH_FAIL_CLOSED": "true",  # no route without a rule is served
        "MLFLOW_FLASK_SERVER_SECRET_KEY": signing_key(keys["airflow"], "mlflow", password),
        "MLFLOW_TRACKING_USERNAME": USER,
        "MLFLOW_TRACKING_PASSWORD": password,
    }
    pages = page_addresses(settings.services, settings.services.mlflow_port)
    variables.defaults = {
        # Any name of this machine: a browser sends a login to no other one than it was typed for.
        "MLFLOW_SERVER_ALLOWED_HOSTS": "*",
        # Without the address of its own pages, MLflow refuses what they send.
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(pages),
    }
    return variables


def registry(settings: Settings, keys: dict[str, str]) -> Variables:
    """Folder, catalog and port of the registry service, and the token that guards its writes."""
    # A container has the variable of the registry's own from a file, as the small image does.
    given = settings.registry.token or os.environ.get("EVERGREEN_REGISTRY_TOKEN")
    return Variables(
        fixed={
            "REGISTRY_PORT": str(settings.services.registry_port),
            "EVERGREEN_REGISTRY_ROOT": str(settings.registry_root),
            "EVERGREEN_REGISTRY_CATALOG_URL": settings.registry_url,
            "EVERGREEN_REGISTRY_TOKEN": given or keys["registry"],
        }
    )


def airflow(settings: Settings, keys: dict[str, str]) -> Variables:
    """Airflow with its state in this home and our DAGs, tuned for short tasks on few cores."""
    home = settings.home
    url = settings.services.address(settings.services.airflow_port)
    fixed = {
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW_PORT": str(settings.services.airflow_port),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{settings.services.airflow_at}/execution/",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs" / "tasks"),
        "EVERGREEN_PAGES": json.dumps(pages(settings)),  # for infra/airflow/plugins
    }
    defaults = {
        # A user's own database needs the key that its connections were encrypted with.
        **airflow_database(settings),
        "AIRFLOW__CORE__FERNET_KEY": keys["fernet"],
        # All DAGs in the folder are ours, and the schedule is to begin without a click.
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "false",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "infra" / "airflow" / "plugins"),
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",
        # The DAG files are parsed at start; they rarely change after that.
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.3",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
        # With the default of 5 s, a worker waits that long after a short task.
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    }
    return Variables(fixed, defaults)


def airflow_database(settings: Settings) -> dict[str, str]:
    """Airflow's database, unless the user has named one of their own, and its connections."""
    if AIRFLOW_DATABASE in os.environ:
        return {}
    address = settings.database_address("airflow")
    if address.startswith("sqlite"):
        return {AIRFLOW_DATABASE: f"{address}?timeout={SQLITE_PATIENCE_S}"}
    return {
        AIRFLOW_DATABASE: address,
        # Airflow would look for asyncpg; psycopg does both.
        f"{AIRFLOW_DATABASE}_ASYNC": address,
        # Of each of its processes, and there again for asynchronous queries.
        "AIRFLOW__DATABASE__SQL_ALCHEMY_POOL_SIZE": "3",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_MAX_OVERFLOW": "3",
    }


def airflow_observed(settings: Settings) -> Variables:
    """How Airflow logs, and where it sends the traces of runs and tasks: as our steps do."""
    defaults = {}
    if settings.services.log_format == "json":
        defaults["AIRFLOW__LOGGING__JSON_LOGS"] = "true"
    if tracing.enabled():
        defaults |= {
            "AIRFLOW__TRACES__OTEL_ON": "true",
            # With the default, gRPC, it would expect another port than our steps.
            "OTEL_TRACES_EXPORTER": "otlp_proto_http",
            "OTEL_SERVICE_NAME": tracing.SERVICE,
        }
    return Variables(defaults=defaults)


def pages(settings: Settings) -> dict[str, str]:
    """The pages that Airflow's navigation leads to, by their names. Everybody sees them there."""
    named = {"Registry": registry_page(settings), "MLflow": without_login(mlflow_page(settings))}
    return {name: address for name, address in named.items() if address}


def airflow_login(settings: Settings, keys: dict[str, str]) -> Variables:
    """Who is an administrator of Airflow: the user with the password, or without one everybody."""
    password = settings.services.password.get_secret_value()
    key = signing_key(keys["airflow"], "airflow", password) if password else keys["airflow"]
    variables = Variables(
        fixed={"AIRFLOW__API__SECRET_KEY": key, "AIRFLOW__API_AUTH__JWT_SECRET": key}
    )
    if password:
        variables.fixed |= {
            ALL_ADMINS: "false",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords_file(settings)),
        }
    else:
        variables.defaults[ALL_ADMINS] = "true"  # every service listens on loopback only
    return variables


def passwords_file(settings: Settings) -> Path:
    """The file in which Airflow looks up the password of a user."""
    return settings.home / "airflow" / "passwords.json"


def signing_key(key: str, purpose: str, password: str) -> str:
    """A key that changes with the password, so that a new one ends every session of the old."""
    return hmac.new(key.encode(), f"{purpose} {password}".encode(), "sha256").hexdigest()


def store_airflow_login(settings: Settings) -> None:
    """Write what Airflow compares a login with, before it starts."""
    file = passwords_file(settings)
    file.unlink(missing_ok=True)
    password = settings.services.password.get_secret_value()
    if password:
        create_private(file, json.dumps({USER: password}))


def store_mlflow_login(settings: Settings) -> None:
    """Make MLflow store the password of the settings when it starts."""
    users = settings.home / "mlflow" / "basic_auth.db"  # named in infra/mlflow_auth.ini
    users.unlink(missing_ok=True)
    if settings.services.password:
        # It stores a password only in an empty database, which keeps its mode.
        create_private(users, "")


def home_secrets(home: Path) -> dict[str, str]:
    """The tokens of a home, drawn on first use and readable by its owner only.

    Processes that draw them at the same time get the same ones. Raises SecretsError where the file
    cannot be read or is not complete.
    """
    file = home / "secrets.json"
    if not file.exists():
        home.mkdir(parents=True, exist_ok=True)
        keys = {name: secrets.token_urlsafe(32) for name in SECRETS if name != "fernet"}
        keys["fernet"] = urlsafe_b64encode(secrets.token_bytes(32)).decode()
        create_private(file, json.dumps(keys))
    remedy = (
        "Restore it from a backup; or stop the services and delete it, and new secrets are drawn."
    )
    try:
        keys = json.loads(file.read_text())
        if file.stat().st_mode & 0o077:  # copied from somewhere
            file.chmod(0o600)
    except (OSError, ValueError) as error:
        raise SecretsError(f"{file} cannot be read as JSON: {error}. {remedy}") from None
    missing = [name for name in SECRETS if not isinstance(keys, dict) or not keys.get(name)]
    if missing:
        raise SecretsError(f"{file} lacks the secrets {missing}. {remedy}")
    return keys


def create_private(file: Path, text: str) -> None:
    """Create a file that only its owner may read, whole and flushed, unless it exists."""
    draft = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    # Created with its mode: a file that is restricted afterwards could be read before.
    descriptor = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        # Unlike a rename, a link never replaces the file of a process that was faster.
        with suppress(FileExistsError):
            os.link(draft, file)
    finally:
        draft.unlink()


def prepended(folder: Path, variable: str) -> str:
    """A search path: the folder, then what the variable holds in this process."""
    rest = os.environ.get(variable)
    return f"{folder}{os.pathsep}{rest}" if rest else str(folder)


def without_login(address: str) -> str:
    """An HTTP address without its user and password, otherwise unchanged."""
    url = urlsplit(address)
    return url._replace(netloc=url.netloc.rpartition("@")[2]).geturl()


def without_secrets(address: str) -> str:
    """An address for a message: without user, password and the options of a Connect address."""
    url = urlsplit(address)
    if not url.netloc:
        return address
    host = url.netloc.rpartition("@")[2]
    path = url.path.partition(";")[0].rstrip("/")
    return f"{url.scheme}://{host}{path}"
