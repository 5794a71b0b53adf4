"""The registry's Python client over HTTP, with the verbs and the answers of `Registry`.

registry = RemoteRegistry("http://127.0.0.1:8090")
registry.get("author", "producer", ["1196"]).vectors
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import numpy as np

from embeddings.benchmarks.results import Result
from embeddings.features import Value
from embeddings.registry import aliases, errors, features
from embeddings.registry.aliases import AliasMove
from embeddings.registry.answers import FoldedVector, Lookalike, Lookup, Neighbour, Results
from embeddings.registry.arrow import ARROW, MAX_BULK_IDS, read_features, read_stream
from embeddings.registry.errors import (
    BadRequest,
    NotFound,
    RegistryError,
    ServiceError,
    UnknownName,
    UnknownVersion,
    missing,
)
from embeddings.registry.features import Feature, Features
from embeddings.registry.files import folder
from embeddings.registry.filters import Where
from embeddings.registry.search import Recall
from embeddings.registry.vectors import text_list
from embeddings.registry.verifications import Verification
from embeddings.registry.versions import (
    EMBEDDING,
    FEATURES,
    LATEST,
    NAME,
    REFERENCE,
    Version,
    require_day,
)

if TYPE_CHECKING:
    from embeddings.registry.diff import Diff

LOOPBACK = ("127.0.0.1", "::1", "localhost")
JSON_BODY = {"Content-Type": "application/json"}
LISTS = {EMBEDDING: "/v1/embeddings", FEATURES: "/v1/features"}


class RemoteRegistry:
    """The registry whose service is at `url`, as in http://127.0.0.1:8090.

    It finds and reads all that `Registry` does, and moves aliases; only publishing, removing and
    loading need the files. The verbs raise what those of `Registry` raise, and ServiceError if the
    service does not answer; a number beyond a limit of the service is a BadRequest. The `path` of a
    version names no folder here: the files are on the service's machine.

    token: the service's, for writes. timeout_s: how long to wait for an answer.
    """

    def __init__(self, url: str, token: str = "", timeout_s: float = 30) -> None:
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # A proxy of the environment has no way to this machine's own addresses.
        local = urlsplit(self.url).hostname in LOOPBACK
        self._http = httpx.Client(headers=headers, timeout=timeout_s, trust_env=not local)
        self._is_registry = False  # not asked yet
        self._versions: dict[str, Version] = {}  # by id, which never means other content

    def __enter__(self) -> RemoteRegistry:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # Finding

    def names(self, kind: str | None = None) -> list[str]:
        """See `Registry.names`."""
        found = []
        for listed, path in LISTS.items():
            if kind in (None, listed):
                found += [one["name"] for one in self._get(path)]
        return sorted(found)

    def versions(self, name: str) -> list[Version]:
        """See `Registry.versions`."""
        return [self._version(body) for body in self._get(f"{self._path(name)}/versions")]

    def aliases(self, name: str) -> dict[str, Version]:
        """See `Registry.aliases`."""
        found = {}
        for body in self._get(f"{self._path(name)}/versions"):
            for alias in body["aliases"]:
                found[alias] = self._version(body)
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
        return self._version(self._get(f"{path}/versions/{reference}"))

    def verifications(self, name: str) -> dict[str, Verification]:
        """See `Registry.verifications`."""
        found = {}
        for body in self._get(f"{self._path(name)}/versions"):
            if body["verified_at"]:
                verified_at = datetime.fromisoformat(body["verified_at"])
                found[body["id"]] = Verification(verified_at, body["faults"])
        return found

    def results(self, version: Version) -> list[Result]:
        """See `Registry.results`."""
        reference = _reference(version.day, version.revision)
        path = f"{self._path(version.name)}/versions/{reference}/benchmarks"
        return list(map(_result, self._get(path)))

    def all_results(self, name: str) -> dict[str, list[Result]]:
        """See `Registry.all_results`."""
        found = self._get(f"{self._path(name)}/benchmarks")
        return {version: list(map(_result, results)) for version, results in found.items()}

    # Looking up

    def get(
        self,
        name: str,
        entity: str,
        ids: Sequence[str],
        day: date | None = None,
        revision: int | None = None,
        space: str | None = None,
        dim: int | None = None,
    ) -> Lookup:
        """See `Registry.get`. Many ids are read in several requests, all from one version."""
        path = f"{self._path(name)}/vectors"
        params = _given(version=_reference(day, revision), space=space, dim=dim)
        parts = []
        ids = text_list(ids)
        for start in range(0, max(len(ids), 1), MAX_BULK_IDS):
            body = {"entity": entity, "ids": ids[start : start + MAX_BULK_IDS]}
            described, *arrays = read_stream(self._post(path, body, params, ARROW).content)
            parts.append(arrays)
            version = self._version(described)
            # An alias may move before the next request.
            params["version"] = _reference(version.day, version.revision)
        vectors, counts, folded = map(np.concatenate, zip(*parts, strict=True))
        # The version says itself how it shortens its vectors.
        return Lookup(version, entity, ids, vectors, counts, folded, version.shortened_by(dim))

    def neighbours(
        self,
        name: str,
        key: str,
        k: int = 10,
        day: date | None = None,
        among: str | None = None,
        revision: int | None = None,
        space: str | None = None,
        dim: int | None = None,
        only: Sequence[str] | None = None,
        exact: bool = False,
        where: Where | None = None,
    ) -> Results[Neighbour]:
        """See `Registry.neighbours`."""
        path = f"{self._path(name)}/neighbours"
        version = _reference(day, revision)
        params = _given(id=key, k=k, among=among, version=version, space=space, dim=dim)
        params |= _given(exact=exact or None)
        if only is None and not where:
            found = self._get(path, params)
        else:
            body = _given(only=None if only is None else text_list(only), where=_plain(where))
            found = self._post(path, body, params).json()
        recall = Recall(**found["recall"]) if found["recall"] else None
        return Results(
            self._of_id(found["version"]),
            _neighbours(found["neighbours"]),
            recall,
            found.get("shortened_by", ""),  # not there in answers of an older service
        )

    def fold_in(
        self,
        name: str,
        strengths: Mapping[str, float],
        day: date | None = None,
        revision: int | None = None,
        space: str | None = None,
        dim: int | None = None,
        k: int | None = None,
        features: Mapping[str, Value] | None = None,
    ) -> FoldedVector:
        """See `Registry.fold_in`."""
        numbers = {id_: float(strength) for id_, strength in strengths.items()}
        body: dict[str, Any] = {"strengths": numbers}
        if features:
            body["features"] = {
                name: dict(value) if isinstance(value, Mapping) else value
                for name, value in features.items()
            }
        params = _given(k=k, version=_reference(day, revision), space=space, dim=dim)
        found = self._post(f"{self._path(name)}/fold-in", body, params).json()
        near = found["neighbours"]
        return FoldedVector(
            version=self._of_id(found["version"]),
            vector=np.array(found["vector"], np.float32),
            known=found["known"],
            unknown=found["unknown"],
            residual=found["residual"],
            neighbours=None if near is None else _neighbours(near),
            unknown_features=found.get("unknown_features", []),
            shortened_by=found.get("shortened_by", ""),
        )

    def lookalike(
        self,
        name: str,
        groups: Sequence[str],
        candidates: Sequence[str] = (),
        k: int = 10,
        by: str = "mean",
        day: date | None = None,
        revision: int | None = None,
        space: str | None = None,
        dim: int | None = None,
    ) -> Results[Lookalike]:
        """See `Registry.lookalike`."""
        params = _given(
            group=text_list(groups),
            candidate=text_list(candidates),
            k=k,
            by=by,
            version=_reference(day, revision),
            space=space,
            dim=dim,
        )
        found = self._get(f"{self._path(name)}/lookalike", params)
        scored = [Lookalike(**producer) for producer in found["producers"]]
        shortened_by = found.get("shortened_by", "")
        return Results(self._of_id(found["version"]), scored, shortened_by=shortened_by)

    def features(
        self,
        entity: str,
        ids: Sequence[str],
        names: Sequence[str],
        as_of: date | str | None = None,
        space: str | None = None,
    ) -> Features:
        """See `Registry.features`."""
        day = features.as_of_day(as_of)
        ids = text_list(ids)
        body = {
            "entity": entity,
            "ids": ids,
            "names": list(names),
            "as_of": None if day is None else str(day),
            "space": space,
        }
        found = {}
        answer = read_features(self._post("/v1/features", body, {}, ARROW).content)
        for feature, (described, values, mask) in answer.items():
            found[feature] = Feature(self._version(described), values, mask)
        return Features(entity, ids, found)

    def diff(self, a: Version, b: Version) -> Diff:
        """See `Registry.diff`."""
        # Imported here: only this verb needs the mathematics of spaces.
        from embeddings.registry.diff import Delta, Diff, Drift, EntityDiff, Moved

        found = self._get("/v1/diff", {"a": a.id, "b": b.id})
        entities = {}
        for entity, one in found["entities"].items():
            drift = None
            if one["drift"] is not None:
                moved = [Moved(**each) for each in one["drift"].get("moved", [])]
                drift = Drift(**{**one["drift"], "moved": moved})
            entities[entity] = EntityDiff(**{**one, "drift": drift})
        lineage = {field: (both["a"], both["b"]) for field, both in found["lineage"].items()}
        deltas = [Delta(_result(one["a"]), _result(one["b"])) for one in found["benchmarks"]]
        return Diff(a, b, entities, lineage, deltas)

    # Writing

    def set_alias(
        self,
        name: str,
        alias: str,
        version: Version,
        only_forward: bool = False,
        reason: str = "",
        by: str = "",
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
            "by": by or aliases.current_user(),
        }
        return self._version(self._post(f"{self._path(name)}/aliases", body, {}).json())

    def rollback(self, name: str, alias: str, reason: str = "", by: str = "") -> Version:
        """See `Registry.rollback`. Raises Unauthorized, Forbidden as `set_alias` does."""
        path = f"{self._alias_path(name, alias)}/rollback"
        return self._version(self._request("POST", path, params=_move(reason, by)).json())

    def delete_alias(self, name: str, alias: str, reason: str = "", by: str = "") -> None:
        """See `Registry.delete_alias`. Raises Unauthorized, Forbidden as `set_alias` does."""
        self._request("DELETE", self._alias_path(name, alias), params=_move(reason, by))

    # Requests

    def _path(self, name: str) -> str:
        """The path of an embedding. Raises UnknownName for a text that cannot be a name."""
        if not NAME.fullmatch(name):  # a slash in it would be another route
            raise UnknownName(*missing("embedding", name, self.names()))
        return f"/v1/embeddings/{name}"

    def _alias_path(self, name: str, alias: str) -> str:
        """The path of an alias that can be set. Raises BadRequest, UnknownName."""
        aliases.require_settable(alias)
        return f"{self._path(name)}/aliases/{alias}"

    def _unknown(self, name: str, alias: str) -> Version:
        """Raises UnknownVersion for what is neither a day nor an alias, or UnknownName."""
        existing = sorted({str(version.day) for version in self.versions(name)})
        existing += self.aliases(name)
        raise UnknownVersion(*missing("day or alias", alias, existing, of=name))

    def _of_id(self, version_id: str) -> Version:
        """The version with this id, asked for once."""
        if version_id not in self._versions:
            name, _, reference = version_id.partition("/")
            self.find(name, reference)
        return self._versions[version_id]

    def _version(self, body: Mapping[str, Any]) -> Version:
        """The version that an answer describes, which is remembered."""
        version = _version(body)
        self._versions[version.id] = version
        return version

    def _get(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        """The JSON that the service answers. Raises RegistryError."""
        return self._request("GET", path, params=params).json()

    def _post(
        self, path: str, body: object, params: Mapping[str, Any], accept: str = "application/json"
    ) -> httpx.Response:
        headers = {**JSON_BODY, "Accept": accept}
        content = json.dumps(body)
        return self._request("POST", path, params=params, content=content, headers=headers)

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The answer. Raises RegistryError."""
        if not self._is_registry:
            # Anything may listen at an address. What it would answer later is not worth guessing.
            health = self._send("GET", "/healthz")
            if not _is_health(health):
                raise _foreign(health)
            self._is_registry = True
        return self._send(method, path, **options)

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
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


def _given(**params: Any) -> dict[str, Any]:
    """The parameters of a request, without those that are None."""
    return {name: value for name, value in params.items() if value is not None}


def _plain(where: Where | None) -> dict[str, Any] | None:
    """Conditions as JSON values. A number of NumPy is none."""
    if where is None:
        return None
    plain: dict[str, Any] = {}
    for feature, condition in where.items():
        plain[feature] = condition.tolist() if isinstance(condition, np.generic) else condition
    return plain


def _move(reason: str, by: str) -> dict[str, str]:
    """Why and by whom an alias is moved; by default by the user of this process."""
    return {"reason": reason, "by": by or aliases.current_user()}


def _neighbours(found: Sequence[Mapping[str, Any]]) -> list[Neighbour]:
    return [Neighbour(**neighbour) for neighbour in found]


def _result(body: Mapping[str, Any]) -> Result:
    return Result(**{**body, "on": date.fromisoformat(body["on"])})


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
        folder=folder(Path(), body["name"], day, body["digest"]),
        entities=body["entities"],
        lineage=body["lineage"],
        published_at=datetime.fromisoformat(body["published_at"]),
        kind=body["kind"],
        size_bytes=body["size_bytes"],
    )


def _error(response: httpx.Response) -> RegistryError:
    """The exception that an error answer stands for."""
    try:
        body = response.json()
        kind = getattr(errors, body["error"], RegistryError)
        if issubclass(kind, NotFound):
            return kind(body["detail"], body["near"])
        if issubclass(kind, OSError):
            return kind(None, body["detail"])
        return kind(body["detail"])
    except (ValueError, TypeError, LookupError):
        return _foreign(response)


def _is_health(response: httpx.Response) -> bool:
    """Is this what a registry says of its health?"""
    try:
        return {"status", "embeddings"} <= response.json().keys()
    except (ValueError, AttributeError):  # no JSON, or no object
        return False


def _foreign(response: httpx.Response) -> ServiceError:
    return ServiceError(
        f"{response.url} answered {response.status_code} with {response.text[:200]!r}, "
        "which no registry would. Is the address right?"
    )
