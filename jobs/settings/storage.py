"""Where the lake and the registry are kept: the table `[storage]`."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from embeddings.storage.folder import Folder
from embeddings.storage.objects import Objects
from embeddings.storage.place import Place
from jobs.section import Section

BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._/-]*)?")
COPY = "copy"  # below home: what was read of a bucket


class StorageSettings(Section):
    """Where the lake and the registry are kept. Credentials of a bucket come from the environment,
    as for every AWS client: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`."""

    url: str = ""
    """Bucket and prefix, `s3://bucket/prefix`. Empty: below `home`."""

    endpoint: str = ""
    """Address of an S3 server other than AWS, such as `http://127.0.0.1:8333`."""

    cache_gb: float = Field(default=20, gt=0, le=1e6)
    """Gigabytes of local copies below `home`. What was not used for longest goes first; what a
    running process uses stays, even if that is more."""

    serve: bool = False
    """Run a SeaweedFS server at `endpoint` with the other services, without a login and with its
    files below `home`: for a trial of a bucket on one machine."""

    @field_validator("url")
    @classmethod
    def _validate_url(cls, url: str) -> str:
        if url and not BUCKET.fullmatch(url):
            raise ValueError("expected s3://BUCKET or s3://BUCKET/PREFIX")
        return url.rstrip("/")

    @field_validator("endpoint")
    @classmethod
    def _validate_endpoint(cls, endpoint: str) -> str:
        expected = "expected http://HOST:PORT or https://HOST"
        try:
            parts = urlsplit(endpoint)
            _ = parts.port  # raises where it is no number
        except ValueError:
            raise ValueError(expected) from None
        if endpoint and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError(expected)
        if parts.username or parts.password:
            raise ValueError("expected no credentials: set AWS_ACCESS_KEY_ID instead")
        return endpoint.rstrip("/")

    @model_validator(mode="after")
    def _validate_serve(self) -> StorageSettings:
        if self.serve and not (self.url and self.serve_port):
            raise ValueError("serve needs a url, and an endpoint http://127.0.0.1:PORT")
        return self

    @property
    def serve_port(self) -> int | None:
        """The port of our own server; None where the endpoint is on another machine."""
        parts = urlsplit(self.endpoint)
        return parts.port if parts.hostname == "127.0.0.1" else None

    @property
    def objects(self) -> Objects:
        return Objects(self.url, self.endpoint, unsigned=self.serve)

    def place(self, home: Path, name: str, folder: Path) -> Place:
        """The place `name` of a home: `folder`, unless there is a bucket."""
        if not self.url:
            return Folder(folder)
        from embeddings.storage.opening import bucket

        return bucket(self.objects, home / COPY, self.cache_gb, name)
