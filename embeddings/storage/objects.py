"""An object store, as far as Evergreen needs one: whole objects, lists, and conditional writes.

Credentials come from the environment, as for every AWS client (AWS_ACCESS_KEY_ID and so on).
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Tag = list[Any]  # equal as long as nothing has written to a file or an object
CHUNK_BYTES = 8 << 20
# A server that restarts is waited for: 0.1 s, 0.2 s, ... 12.8 s, in all half a minute.
RETRIES: Any = {
    "max_retries": 8,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=15)},
}

_forked = False  # the client's threads do not survive a fork


def _after_fork() -> None:
    global _forked
    _forked = _client.cache_info().currsize > 0


class StoreError(OSError):
    """The object store does not do what was asked; the message names it and has the remedy."""


class UnsafeStore(StoreError):
    """The store ignores the conditions of conditional writes, on which every commit relies."""


@dataclass(frozen=True)
class Objects:
    """The objects below one address.

    url: s3://BUCKET or s3://BUCKET/PREFIX. endpoint: the address of a server other than AWS.
    unsigned: the server asks for no credentials.
    """

    url: str
    endpoint: str = ""
    unsigned: bool = False

    def __str__(self) -> str:
        return f"{self.url} at {self.endpoint}" if self.endpoint else self.url

    def get(self, key: str) -> tuple[bytes, Tag]:
        """An object and its tag. Raises FileNotFoundError, StoreError."""
        with self._explained("read", key):
            found = self._module.get(self._store, key)
            data = bytes(found.bytes())
            return data, _tag(found.meta)

    def tag(self, key: str) -> Tag:
        """The tag of an object. Raises FileNotFoundError, StoreError."""
        with self._explained("read", key):
            return _tag(self._module.head(self._store, key))

    def put(self, key: str, content: bytes | Path) -> None:
        """Write an object, from memory or from a file, whether or not it exists."""
        with self._explained("write", key), self._in_a_bucket():
            self._module.put(self._store, key, content, chunk_size=CHUNK_BYTES)

    def replace(self, key: str, data: bytes, seen: Tag | None) -> bool:
        """Write an object if its tag is still `seen`; None: if it does not exist. Was it written?

        data: no other writer's, by something random in it. A request whose answer is lost is sent
        again, and then refused because of itself.
        """
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        mode: Any = "create" if seen is None else {"e_tag": seen[1]}
        refusals: Any = (AlreadyExistsError, PreconditionError)
        if seen is not None:
            refusals += (FileNotFoundError,)
        with self._explained("write", key), self._in_a_bucket():
            try:
                self._module.put(self._store, key, data, mode=mode, use_multipart=False)
            except refusals:
                return self._holds(key, data)
        return True

    @contextmanager
    def _in_a_bucket(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise StoreError(
                f"{self} does not exist: create the bucket, or correct [storage]."
            ) from None

    def _holds(self, key: str, data: bytes) -> bool:
        try:
            return self.get(key)[0] == data
        except FileNotFoundError:
            return False

    def listed(self, prefix: str) -> Iterator[tuple[str, Tag, float]]:
        """Every object below a prefix: key, tag, and the time of its last write in seconds."""
        with self._explained("list", prefix):
            for batch in self._module.list(self._store, prefix):
                for meta in batch:
                    yield meta["path"], _tag(meta), meta["last_modified"].timestamp()

    def folders(self, prefix: str) -> list[str]:
        """The names of the folders directly below a prefix."""
        with self._explained("list", prefix):
            found = self._module.list_with_delimiter(self._store, prefix)["common_prefixes"]
        return sorted(name.rstrip("/").rpartition("/")[2] for name in found)

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; those that do not exist are no error."""
        for key in keys:
            with suppress(FileNotFoundError), self._explained("delete", key):
                self._module.delete(self._store, key)

    def digest(self, key: str, file: Path | None = None) -> str:
        """SHA-256 of an object, which is also written to a file, if one is given."""
        found = hashlib.sha256()
        with self._explained("read", key), open(file or os.devnull, "wb") as stream:
            for chunk in self._module.get(self._store, key).stream(CHUNK_BYTES):
                found.update(chunk)
                stream.write(chunk)
        return found.hexdigest()

    def require_conditions(self) -> None:
        """Raises UnsafeStore where the store ignores the conditions of a write, StoreError."""
        key = f"_probe/{uuid.uuid4().hex}"
        try:
            if not self.replace(key, b"first", None):
                raise self._unsafe("refuses to create an object that does not exist")
            first = self.tag(key)
            if self.replace(key, b"second", None):
                raise self._unsafe("replaces an object that was only to be created")
            if not self.replace(key, b"third", first):
                raise self._unsafe("refuses to replace an object that is unchanged")
            if self.replace(key, b"fourth", first):
                raise self._unsafe("replaces an object that was written to since it was read")
        finally:
            with suppress(StoreError):
                self.delete([key])

    def _unsafe(self, what: str) -> UnsafeStore:
        return UnsafeStore(
            f"{self} {what}: two runners could undo each other's commits there. Evergreen needs a "
            "store with conditional writes (If-None-Match and If-Match), as AWS S3 and "
            "SeaweedFS have them: name another one in [storage], or leave storage.url empty."
        )

    @contextmanager
    def _explained(self, verb: str, key: str) -> Iterator[None]:
        """Turn the client's errors, whose texts are pages long, into a StoreError."""
        from obstore.exceptions import BaseError

        try:
            yield
        except BaseError as error:
            reason = str(error).partition("\n")[0].strip()
            raise StoreError(
                f"Cannot {verb} {key or 'anything'} in {self}: {reason} Is the server running, "
                "does the bucket exist, and are the credentials (AWS_ACCESS_KEY_ID, "
                "AWS_SECRET_ACCESS_KEY) right?"
            ) from None

    @property
    def _module(self) -> Any:
        import obstore  # compiled code, which only a home with a bucket needs

        return obstore

    @property
    def _store(self) -> Any:
        if _forked:
            raise StoreError(
                f"This process was forked from one that uses {self} already, and the client cannot "
                "go on in a fork. Start it anew (multiprocessing: the 'spawn' method)."
            )
        return _client(self)


@lru_cache
def _client(objects: Objects) -> Any:
    """The client of a store, one per process: it keeps its connections."""
    from obstore.store import S3Store

    url = urlsplit(objects.url)
    config: Any = {"skip_signature": objects.unsigned}
    if objects.endpoint:
        config["endpoint"] = objects.endpoint
    return S3Store(
        url.netloc,
        prefix=url.path.strip("/") or None,
        config=config,
        client_options={"allow_http": objects.endpoint.startswith("http://")},
        retry_config=RETRIES,
    )


def _tag(meta: Any) -> Tag:
    return [meta["size"], meta["e_tag"]]


os.register_at_fork(after_in_child=_after_fork)
