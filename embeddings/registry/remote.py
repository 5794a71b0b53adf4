"""The registry's Python client over HTTP, with the reading verbs and the answers of `Registry`.

registry = RemoteRegistry("http://127.0.0.1:8090")
registry.get("author", "producer", ["1196"]).vectors
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from embeddings.registry import errors
from embeddings.registry.aliases import AliasMove
from embeddings.registry.answers import FoldedVector, Lookalike, Lookup, Neighbour
from embeddings.registry.arrow import ARROW, MAX_BULK_IDS, read_stream
from embeddings.registry.errors import (
    BadRequest,
    NotFound,
    RegistryError,
    ServiceError,
    UnknownName,
    UnknownVersion,
    missing,
)
from embeddings.registry.files import folder
from embeddings.registry.versions import LATEST, NAME, REFERENCE, Version, require_day

JSON_BODY = {"Content-Type": "application/json"}


class RemoteRegistry:
    """The registry whose service is at `url`, as in http://127.0.0.1:8090.

    The verbs raise what those of `Registry` raise, and ServiceError if the service does not answer;
    a number beyond a limit of the service is a BadRequest. The `path` of a version names no folder
    here: the files are on the service's machine.

    token: the service's, for writes. timeout_s: how long to wait for an answer.
    """

    def __init__(self, url: str, token: str = "", timeout_s: float = 30) -> None:
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(headers=headers, timeout=timeout_s)
        self._versions: dict[str, Version] = {}  # by id, which never means other content

    def __enter__(self) -> RemoteRegistry:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # Finding

    def names(self) -> list[str]:
        """See `Registry.names`."""
        return [embedding["name"] for embedding in self._get("/v1/embeddings")]

    def versions(self, name: str) -> list[Version]:
        """See `Registry.versions`."""
        return [_version(body) for body in self._get(f"{self._path(name)}/versions")]

    def aliases(self, name: str) -> dict[str, Version]:
        """See `Registry.aliases`."""
        found = {}
        for body in self._get(f"{self._path(name)}/versions"):
            for alias in body["aliases"]:
                found[alias] = _version(body)
        return dict(sorted(found.items()))

    def alias(self, name: str, alias: str) -> Version:
        """See `Registry.alias`."""
        found = self.aliases(name).get(alias)
        return found if found is not None else self._unknown(name, alias)

    def history(self, name: str, alias: str | None = None) -> list[AliasMove]:
        """See `Registry.history`."""
        params = {} if alias is None else {"alias": alias}
        moves = []
        for body in self._get(f"{self._path(name)}/history", params):
            moved_at = datetime.fromisoformat(body["moved_at"])
            moves.append(AliasMove(**{**body, "moved_at": moved_at}))
        return moves

    def version(self, name: str, day: date | None = None, revision: int | None = None) -> Version:
        """See `Registry.version`."""
        return self.find(name, _reference(day, revision))

    def find(self, name: str, reference: str = LATEST) -> Version:
        """See `Registry.find`."""
        path = self._path(name)
        if not (REFERENCE.fullmatch(reference) or NAME.fullmatch(reference)):
            return self._unknown(name, reference)
        return _version(self._get(f"{path}/versions/{reference}"))

    # Looking up

    def get(
        self,
        name: str,
        entity: str,
        ids: Sequence[str],
        day: date | None = None,
        revision: int | None = None,
    ) -> Lookup:
        """See `Registry.get`. Many ids are read in several requests, all from one version."""
        path = f"{self._path(name)}/vectors"
        reference = _reference(day, revision)
        parts = []
        for start in range(0, max(len(ids), 1), MAX_BULK_IDS):
            body = {"entity": entity, "ids": list(ids[start : start + MAX_BULK_IDS])}
            params = {"version": reference}
            version, *arrays = read_stream(self._post(path, body, params, ARROW).content)
            parts.append(arrays)
            reference = version.partition("/")[2]  # an alias may move before the next request
        vectors, counts, folded = map(np.concatenate, zip(*parts, strict=True))
        return Lookup(self._of_id(version), entity, list(ids), vectors, counts, folded)

    def neighbours(
        self,
        name: str,
        key: str,
        k: int = 10,
        day: date | None = None,
        among: str | None = None,
        revision: int | None = None,
    ) -> list[Neighbour]:
        """See `Registry.neighbours`."""
        params: dict[str, Any] = {"id": key, "k": k, "version": _reference(day, revision)}
        if among is not None:
            params["among"] = among
        found = self._get(f"{self._path(name)}/neighbours", params)
        return [Neighbour(**neighbour) for neighbour in found["neighbours"]]

    def fold_in(
        self,
        name: str,
        strengths: Mapping[str, float],
        day: date | None = None,
        revision: int | None = None,
    ) -> FoldedVector:
        """See `Registry.fold_in`."""
        body = {"strengths": {id_: float(strength) for id_, strength in strengths.items()}}
        params = {"version": _reference(day, revision)}
        found = self._post(f"{self._path(name)}/fold-in", body, params).json()
        vector = np.array(found["vector"], np.float32)
        return FoldedVector(self._of_id(found["version"]), vector, found["known"], found["unknown"])

    def lookalike(
        self,
        name: str,
        groups: Sequence[str],
        candidates: Sequence[str] = (),
        k: int = 10,
        by: str = "mean",
        day: date | None = None,
        revision: int | None = None,
    ) -> list[Lookalike]:
        """See `Registry.lookalike`."""
        params = {
            "group": list(groups),
            "candidate": list(candidates),
            "k": k,
            "by": by,
            "version": _reference(day, revision),
        }
        found = self._get(f"{self._path(name)}/lookalike", params)
        return [Lookalike(**producer) for producer in found["producers"]]

    # Writing

    def set_alias(
        self,
        name: str,
        alias: str,
        version: Version,
        only_forward: bool = False,
        reason: str = "",
    ) -> Version:
        """See `Registry.set_alias`. Raises Unauthorized, Forbidden where the token is not right."""
        if version.name != name:
            raise BadRequest(
                f"Alias {alias!r} of '{name}' cannot point at {version.id}, "
                f"which is a version of '{version.name}'."
            )
        body = {
            "alias": alias,
            "version": _reference(version.day, version.revision),
            "only_forward": only_forward,
            "reason": reason,
        }
        return _version(self._post(f"{self._path(name)}/aliases", body, {}).json())

    # Requests

    def _path(self, name: str) -> str:
        """The path of an embedding. Raises UnknownName for a text that cannot be a name."""
        if not NAME.fullmatch(name):  # a slash in it would be another route
            raise UnknownName(*missing("embedding", name, self.names()))
        return f"/v1/embeddings/{name}"

    def _unknown(self, name: str, alias: str) -> Version:
        """Raises UnknownVersion for what is neither a day nor an alias, or UnknownName."""
        existing = sorted({str(version.day) for version in self.versions(name)})
        existing += self.aliases(name)
        raise UnknownVersion(*missing("day or alias", alias, existing, of=name))

    def _of_id(self, version_id: str) -> Version:
        """The version with this id, asked for once."""
        if version_id not in self._versions:
            name, _, reference = version_id.partition("/")
            self._versions[version_id] = self.find(name, reference)
        return self._versions[version_id]

    def _get(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        """The JSON that the service answers."""
        return self._request("GET", path, params=params).json()

    def _post(
        self, path: str, body: object, params: Mapping[str, Any], accept: str = "application/json"
    ) -> httpx.Response:
        headers = {**JSON_BODY, "Accept": accept}
        content = json.dumps(body)
        return self._request("POST", path, params=params, content=content, headers=headers)

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The answer. Raises RegistryError."""
        try:
            response = self._http.request(method, self.url + path, **options)
        except (httpx.InvalidURL, UnicodeEncodeError) as error:
            raise BadRequest(f"The request cannot be sent: {error}.") from None
        except httpx.HTTPError as error:
            raise ServiceError(
                f"The registry at {self.url} does not answer: {error}. "
                "Is the address right, and does the service run?"
            ) from None
        if response.is_success:
            return response
        raise _error(response)


def _reference(day: date | None, revision: int | None) -> str:
    """A day or a revision of it as the service reads it. Raises BadRequest."""
    if day is None:
        return LATEST
    require_day(day)
    return str(day) if revision is None else f"{day}.r{revision}"


def _version(body: Mapping[str, Any]) -> Version:
    """The version that an answer describes."""
    day = date.fromisoformat(body["day"])
    return Version(
        name=body["name"],
        day=day,
        revision=body["revision"],
        space=body["space"],
        digest=body["digest"],
        dim=body["dim"],
        path=folder(Path(), body["name"], day, body["digest"]),
        entities=body["entities"],
        lineage=body["lineage"],
        published_at=datetime.fromisoformat(body["published_at"]),
    )


def _error(response: httpx.Response) -> RegistryError:
    """The exception that an error answer stands for."""
    try:
        body = response.json()
        kind = getattr(errors, body["error"], RegistryError)
        if issubclass(kind, NotFound):
            return kind(body["detail"], body["near"])
        return kind(body["detail"])
    except (ValueError, TypeError, LookupError):
        return ServiceError(
            f"{response.url} answered {response.status_code} with {response.text[:200]!r}, "
            "which no registry would. Is the address right?"
        )
