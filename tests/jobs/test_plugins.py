"""Sections that name a plug-in: its options are found, validated, named in errors and digested."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from embeddings.embedders.base import names
from jobs.errors import SettingsError
from jobs.plugins import plugin_names
from jobs.settings import EmbeddingSettings, Settings, load_settings
from models.rankers.base import kinds

SOURCE = '[source]\nkind = "edgelist"\npath = "log.txt"\n'


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Loads settings from the text of a file."""
    monkeypatch.delenv("EVERGREEN_SETTINGS", raising=False)

    def from_text(text: str) -> Settings:
        file = tmp_path / "settings.toml"
        file.write_text(SOURCE + text)
        return load_settings(file)

    return from_text


def test_a_file_that_defines_the_marker_is_a_plugin():
    assert plugin_names("embeddings.embedders", "EMBEDDER") == names()
    assert plugin_names("models.rankers", "RANKER") == kinds()


def test_without_a_table_a_plugin_has_its_defaults(load):
    settings = load('[embedding]\nmethod = "als"\n')
    assert settings.embedding.options.iterations == 32


def test_the_table_of_a_plugin_sets_its_options(load):
    settings = load('[embedding]\nmethod = "als"\n[embedding.als]\niterations = 7\n')
    assert settings.embedding.options.iterations == 7
    assert settings.embedding.options.solver == "cg"


def test_a_variable_overrides_an_option_of_a_plugin(load, monkeypatch):
    monkeypatch.setenv("EVERGREEN_EMBEDDING__METHOD", "als")
    monkeypatch.setenv("EVERGREEN_EMBEDDING__ALS__ITERATIONS", "9")
    settings = load("[embedding.als]\niterations = 7\ncg_steps = 2\n")
    assert settings.embedding.options.iterations == 9
    assert settings.embedding.options.cg_steps == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[embedding]\nmethod = "pca"\n',
            r"embedding: method: unknown name 'pca'; expected one of: als, bag, cooccurrence, svd",
        ),
        (
            "[embedding]\ndimension = 8\n",
            r"embedding: unknown option 'dimension'; expected one of: als, .*dim",
        ),
        (
            "[embedding.als]\niteration = 8\n",
            r"als\.iteration: unknown option; did you mean iterations",
        ),
        (
            "[embedding.als]\niterations = 0\n",
            r"als\.iterations: .*greater than or equal to 1.*given: 0",
        ),
        (
            "[embedding.svd]\ntolerance = 1e-9\n",
            r"svd\.tolerance: .*greater than or equal to .*given: 1e-09",
        ),
        (
            '[ranker]\nkind = "oracle"\n',
            r"ranker: kind: unknown name 'oracle'; expected one of: .*masknet",
        ),
    ],
)
def test_an_invalid_option_is_named_with_what_is_expected(load, text, message):
    with pytest.raises(SettingsError, match=message):
        load(text)


def test_a_section_of_options_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        EmbeddingSettings().dim = 8


def test_settings_survive_json(load):
    settings = load('[embedding]\nmethod = "als"\n[embedding.als]\niterations = 7\n')
    again = Settings.model_validate_json(settings.model_dump_json())
    assert again == settings
    assert again.embedding.options.iterations == 7


def test_only_the_chosen_plugin_is_part_of_the_digest(load):
    """Tuning ALS does not invalidate what the SVD has computed; tuning the SVD does."""
    plain = load("").digest("embedding")
    assert load("[embedding.als]\niterations = 7\n").digest("embedding") == plain
    assert load("[embedding.svd]\nsmoothing = 2.0\n").digest("embedding") != plain


def test_an_explicit_default_has_the_same_digest(load):
    assert load("[embedding.svd]\nsmoothing = 1.0\n").digest("embedding") == load("").digest(
        "embedding"
    )


def test_loading_settings_imports_no_plugin():
    """Some plug-ins import torch: `evergreen --help` must not wait for it."""
    code = (
        "import sys; from jobs.settings import load_settings; load_settings();"
        "print({'torch', 'numba', 'scipy', 'pyspark'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
