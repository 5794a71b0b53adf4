"""The files of a version: arrays come back unchanged, and damaged files are never read."""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from registry_parts import DAY, SPACE, parts, publish, vectors

from embeddings.fold_in.svd import SVDFoldIn
from embeddings.registry import files
from embeddings.registry.errors import BadVersion, DamagedVersion
from embeddings.registry.vectors import FIELDS, Index, Vectors
from embeddings.storage.folder import Folder

ID = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


def published_folder(root: Path, entities: dict[str, Vectors], fold_in: SVDFoldIn) -> Path:
    """The folder of a version that is written, but not recorded in a catalog."""
    writing = files.publishing_files(Folder(root), "author", DAY, SPACE, entities, fold_in, {})
    with writing as manifest:
        return files.folder(root, "author", DAY, manifest["digest"])


@settings(max_examples=25)
@given(st.sets(ID, min_size=1, max_size=20), st.integers(1, 5), st.integers(0, 100))
def test_published_arrays_are_mapped_unchanged(ids, dim, seed):
    """Every array comes back bit for bit, for any ids."""
    producer = vectors(sorted(ids), dim, seed)
    fold_in = SVDFoldIn(producer.vectors * 2, np.linspace(0, 1, len(ids)))
    with tempfile.TemporaryDirectory() as folder:
        home = published_folder(Path(folder), {"producer": producer}, fold_in)
        mapped = files.open_files(Folder(home.parents[2]), home)
        stored = mapped.entities["producer"]
        for field in FIELDS:
            np.testing.assert_array_equal(getattr(stored, field), getattr(producer, field))
        assert mapped.fold_in.matrix.tobytes() == fold_in.matrix.tobytes()
        assert mapped.fold_in.column_sums.tobytes() == fold_in.column_sums.tobytes()


@given(st.sets(ID, min_size=1, max_size=40), st.lists(ID, max_size=40), st.randoms())
def test_rows_agree_with_a_dictionary(ids, others, random):
    """For known ids, unknown ones, and prefixes and extensions of known ones."""
    index = Index(vectors(sorted(ids)).ids)
    row_of = {id_.decode(): row for row, id_ in enumerate(index.ids.tolist())}
    extensions = [id_ + "x" * 9 for id_ in ids]
    prefixes = [id_[:-1] for id_ in ids]
    wanted = [*ids, *others, *extensions, *prefixes]
    random.shuffle(wanted)
    rows = index.find(wanted)
    assert rows.dtype == np.int64
    assert rows.tolist() == [row_of.get(id_, -1) for id_ in wanted]
    encoded = np.array([id_.encode() for id_ in wanted])
    assert index.find(encoded).tolist() == rows.tolist()


def test_mapped_arrays_cannot_be_written(plain):
    loaded = plain.load(publish(plain))
    with pytest.raises(ValueError, match="read-only"):
        loaded.entities["consumer"].vectors[0] = 0


def test_digests_are_those_of_sha256sum(plain):
    version = publish(plain)
    digests = json.loads((version.path / "manifest.json").read_text())["content"]["files"]
    printed = subprocess.run(
        ["sha256sum", *sorted(digests)],
        cwd=version.path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert dict(line.split("  ")[::-1] for line in printed.stdout.splitlines()) == digests
    found = {str(p.relative_to(version.path)) for p in version.path.rglob("*") if p.is_file()}
    assert found == {*digests, "manifest.json"}
    assert plain.verify(version) == digests


def test_one_flipped_bit_is_found_and_named(plain):
    version = publish(plain)
    path = version.path / "consumer/shard-00000/vectors.npy"
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    path.write_bytes(changed)
    with pytest.raises(
        DamagedVersion,
        match=r"consumer/shard-00000/vectors\.npy \(changed\)\. Publish the day again",
    ):
        plain.verify(version)


def test_a_missing_file_is_found_and_named(plain):
    version = publish(plain)
    (version.path / "producer/shard-00000/ids.npy").unlink()
    with pytest.raises(DamagedVersion, match=r"producer/shard-00000/ids\.npy \(missing\)"):
        plain.verify(version)
    with pytest.raises(DamagedVersion, match=r"producer/shard-00000/ids\.npy cannot be read"):
        plain.load(version)


def test_a_file_cut_short_is_not_mapped(plain):
    version = publish(plain)
    path = version.path / "consumer/shard-00000/vectors.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DamagedVersion, match=r"consumer/shard-00000/vectors\.npy cannot be read"):
        plain.load(version)


def test_an_emptied_file_is_not_mapped(plain):
    version = publish(plain)
    (version.path / "consumer" / "shard-00000" / "ids.npy").write_bytes(b"")
    with pytest.raises(DamagedVersion, match=r"shard-00000/ids\.npy cannot be read"):
        plain.load(version)


def test_an_edited_manifest_is_rejected(plain):
    version = publish(plain)
    path = version.path / "manifest.json"
    path.write_text(path.read_text().replace(SPACE, "author/2022-04-26"))
    with pytest.raises(DamagedVersion, match="does not have the digest"):
        plain.load(version)


def test_pickles_are_never_opened(plain):
    """Loading an array of objects would run code."""
    version = publish(plain)
    np.save(version.path / "consumer/shard-00000/ids.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(DamagedVersion, match="cannot be read"):
        plain.load(version)


def test_the_same_ids_in_a_wider_array_are_the_same_content(root):
    entities, fold_in = parts()
    wide = {}
    for entity, stored in entities.items():
        wide[entity] = replace(stored, ids=stored.ids.astype("S99"))
    narrow_home = published_folder(root, entities, fold_in)
    assert published_folder(root, wide, fold_in) == narrow_home


BROKEN = [
    (r"ids must be sorted and unique: b'c7' follows b'c8' in row 1", "ids", "reversed"),
    (r"ids must be sorted and unique: b'c0' follows b'c0'", "ids", "repeated"),
    (r"ids holds an empty id in row 0", "ids", "empty"),
    (r"ids must be UTF-8", "ids", "not utf-8"),
    (r"ids must be an array of kind 'S'", "ids", "texts"),
    (r"vectors must be finite: row 4 is not", "vectors", "nan"),
    (r"vectors must be float32 of shape \(9, 3\), not float32 of .* \(9, 2\)", "vectors", "narrow"),
    (r"counts must be int32 of shape \(9,\), not float64", "counts", "float"),
]


@pytest.mark.parametrize(("message", "field", "kind"), BROKEN)
def test_an_invalid_array_is_named_and_no_file_remains(plain, message, field, kind):
    entities, fold_in = parts()
    consumer = entities["consumer"]
    faulty = {
        "reversed": consumer.ids[::-1],
        "repeated": np.sort(np.append(consumer.ids[:-1], b"c0")),
        "empty": np.sort(np.append(consumer.ids[:-1], b"")),
        "not utf-8": np.sort(np.append(consumer.ids[:-1], b"\xff")),
        "texts": consumer.ids.astype(str),
        "nan": np.where(np.arange(9)[:, None] == 4, np.nan, consumer.vectors).astype(np.float32),
        "narrow": consumer.vectors[:, :2],
        "float": consumer.counts.astype(float),
    }
    broken = {**entities, "consumer": replace(consumer, **{field: faulty[kind]})}
    with pytest.raises(BadVersion, match=rf"consumer\.{message}"):
        plain.publish("author", DAY, SPACE, broken, fold_in, {})
    assert plain.names() == []
    assert not list(plain.root.rglob("*.npy"))


def test_a_version_needs_producers(plain):
    entities, fold_in = parts()
    with pytest.raises(BadVersion, match=r"needs the entity 'producer'.*Given: \['consumer'\]"):
        plain.publish("author", DAY, SPACE, {"consumer": entities["consumer"]}, fold_in, {})


@pytest.mark.parametrize("name", ["", "../up", "a/b", "_staging", "a b", "x" * 101])
def test_a_name_that_could_leave_its_folder_is_rejected(plain, name):
    with pytest.raises(BadVersion, match="cannot be the name"):
        publish(plain, name=name)


def test_a_lineage_that_json_cannot_express_is_rejected(plain):
    with pytest.raises(BadVersion, match="lineage of 'author' cannot be written as JSON"):
        publish(plain, loss=float("nan"))


def test_near_ids_are_spelt_alike():
    index = Index(vectors(["1195", "1196", "22", "77"]).ids)
    assert set(index.near("1197")) == {"1195", "1196"}
