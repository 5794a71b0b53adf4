"""Published versions as the lake names them: by their content, name/day@digest."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from jobs.errors import NotCommitted

if TYPE_CHECKING:
    from embeddings.registry.client import Version
    from jobs.lake.store import Partition
    from jobs.settings import Settings

DIGEST_LENGTH = 12  # of a version in an id: enough to tell the versions of one day apart


def content_id(version: Version) -> str:
    """A version by its content: the revision depends on what was published before it."""
    return f"{version.name}/{version.day}@{version.digest[:DIGEST_LENGTH]}"


def published_version(settings: Settings, content_id: str) -> Version:
    """The version with a content id such as 'author/2022-04-25@0123456789ab'.

    Raises NotCommitted where the registry does not have it.
    """
    name, _, reference = content_id.partition("/")
    day, _, digest = reference.partition("@")
    with settings.open_registry() as registry:
        versions = registry.versions(name)
    for version in versions:
        if str(version.day) == day and version.digest.startswith(digest):
            return version
    raise NotCommitted(
        f"The registry has no version {content_id}: it was removed, or another registry is named "
        f"by the settings. Publish it again: "
        f"{settings.lake.command('publish', date.fromisoformat(day))}"
    )


def own_version(settings: Settings, model: Partition) -> Version | None:
    """The version of the newest vectors that a model was trained on.

    model: a partition of `train`. None where its newest day had no vectors, or the registry does
    not have the version any more.
    """
    content_id = model.facts["embedding"]
    try:
        return published_version(settings, content_id) if content_id else None
    except NotCommitted:
        # A removed version must not keep the day from being tested.
        return None
