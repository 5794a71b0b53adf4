"""Addresses of services and databases, as texts."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit


def in_url(host: str) -> str:
    """An IP address as a URL has it: version 6 in brackets."""
    return f"[{host}]" if ":" in host else host


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


def libpq_address(address: str) -> str:
    """An SQLAlchemy address of PostgreSQL, as its own programs and its client library read it."""
    scheme, separator, rest = address.partition("://")
    return f"{scheme.partition('+')[0]}{separator}{rest}"


def without_password(address: str) -> tuple[str, str]:
    """An address of PostgreSQL without its password, and the password, "" where it has none."""
    parts = urlsplit(address)
    user, at, host = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    options = [option for option in parts.query.split("&") if option]
    kept = [option for option in options if not option.startswith("password=")]
    given = dict(parse_qsl(parts.query)).get("password") or unquote(password)
    bare = parts._replace(netloc=f"{name}{at}{host}", query="&".join(kept))
    return bare.geturl(), given
