"""The tables [embedding] and [embedding.lengths] of the settings file."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator, model_validator

from jobs.lake.schema import FEATURE_TABLES
from jobs.names import published_name
from jobs.plugins import PluginSection, plugin_names
from jobs.section import Section


class LengthSettings(Section):
    """Shorter lengths of the vectors, each judged beside the whole and read by `dim`."""

    method: str = "prefixes"
    """How vectors are shortened: "prefixes", their leading numbers, which need no learning and can
    be read at any length; or a file of embeddings/lengths/, such as "autoencoder", "matryoshka" or
    "pca", whose lengths are published beside the vectors."""

    of: list[Annotated[int, Field(ge=1)]] = Field(default_factory=list)
    """The lengths, each below `dim`, such as [16, 8]."""

    @field_validator("method")
    @classmethod
    def _validate_method(cls, method: str) -> str:
        known = plugin_names("embeddings.lengths", "REDUCER")
        if method not in known:
            raise ValueError(f"unknown name; expected one of: {', '.join(known)}")
        return method

    @field_validator("of")
    @classmethod
    def _validate_of(cls, of: list[int]) -> list[int]:
        if len(set(of)) < len(of):
            raise ValueError("expected each length once")
        return sorted(of, reverse=True)

    @property
    def are_learned(self) -> bool:
        """Whether something is learned; in a space, the first columns are prefixes already."""
        return bool(self.of) and self.method not in ("prefixes", "first_columns")


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

    retrieval_gate: float = Field(default=0.8, ge=0, le=1)
    """The alias `champion` moves to a version only if its NDCG@20 of the next day's engagements is
    not significantly below this share of what EASE gains on popularity. 0: any version is good
    enough. A change takes effect with the next promotion."""

    lengths: LengthSettings = LengthSettings()
    """Shorter lengths of the vectors."""

    @model_validator(mode="after")
    def _validate_lengths(self) -> EmbeddingSettings:
        too_long = [length for length in self.lengths.of if length >= self.dim]
        if too_long:
            raise ValueError(
                f"lengths.of has {too_long}; expected lengths below dim, which is {self.dim}"
            )
        return self

    @property
    def learns_from_sessions(self) -> bool:
        # The method first: options are loaded with their embedder, which takes time.
        return self.method == "cooccurrence" and self.options.pairs == "sessions"

    def effective(self) -> dict[str, Any]:
        """As of any plug-in, without what shapes no partition.

        The gate decides about an alias alone; lengths and hard negatives are younger than the lake,
        and shape nothing where there are none.
        """
        options = super().effective()
        del options["retrieval_gate"]
        if not self.lengths.of:
            del options["lengths"]
        own = options[self.method]
        if own.get("hard_negatives") == 0:
            del own["hard_negatives"]
        return options
