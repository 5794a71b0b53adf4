"""Score with an exported ranker where nothing of Evergreen is installed: NumPy and one runtime.

This file is copied beside an export as `score.py`. It needs onnxruntime for `ranker.onnx`, torch
for `ranker.pt2`. A row is a dict of texts, numbers and two vectors, all of them optional:

    consumer, producer, item, hour, …    a category, by the name of its column without "hash_"
    num_…                                a number, by the name of its column
    consumer_vector, producer_vector     of the space that the card names

    python score.py ranker.onnx rows.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

CARD = "evergreen"  # the key of the description inside an export
VECTORS = ("consumer_vector", "producer_vector")
# Constants of XXH64, and the seed with which the features are hashed.
P1, P2, P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
P4, P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
SEED = 42
M = (1 << 64) - 1


def bucket(value: str, buckets: int) -> int:
    """The bucket of a category's text, "" where unknown: Spark's pmod(xxhash64(text), buckets)."""
    hashed = xxh64(value.encode())
    if hashed >> 63:  # Spark's is signed
        hashed -= 1 << 64
    return hashed % buckets


def xxh64(data: bytes) -> int:
    """XXH64 of these bytes with SEED, as an unsigned number.

    Source: https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md.
    """
    lanes = [SEED + P1 + P2, SEED + P2, SEED, SEED - P1]
    stripes = len(data) // 32 * 32
    for start in range(0, stripes, 8):
        lane = start // 8 % 4
        lanes[lane] = mixed(lanes[lane], int.from_bytes(data[start : start + 8], "little"))
    hashed = SEED + P5
    if stripes:
        hashed = sum(rotated(lane & M, by) for lane, by in zip(lanes, (1, 7, 12, 18), strict=True))
        for lane in lanes:
            hashed = ((hashed ^ mixed(0, lane)) * P1 + P4) & M
    return avalanche(with_rest((hashed + len(data)) & M, data[stripes:]))


def with_rest(hashed: int, rest: bytes) -> int:
    """The hash with the last bytes, fewer than 32: by eight, by four, and one by one."""
    while len(rest) >= 8:
        word = mixed(0, int.from_bytes(rest[:8], "little"))
        hashed = (rotated(hashed ^ word, 27) * P1 + P4) & M
        rest = rest[8:]
    if len(rest) >= 4:
        word = int.from_bytes(rest[:4], "little") * P1 & M
        hashed = (rotated(hashed ^ word, 23) * P2 + P3) & M
        rest = rest[4:]
    for byte in rest:
        hashed = rotated(hashed ^ (byte * P5 & M), 11) * P1 & M
    return hashed


def mixed(lane: int, word: int) -> int:
    return rotated((lane + word * P2) & M, 31) * P1 & M


def rotated(x: int, by: int) -> int:
    """64 bits rotated to the left."""
    return (x << by | x >> (64 - by)) & M


def avalanche(x: int) -> int:
    x = (x ^ x >> 33) * P2 & M
    x = (x ^ x >> 29) * P3 & M
    return x ^ x >> 32


def arrays(rows: list[dict[str, Any]], spec: dict[str, Any]) -> dict[str, np.ndarray]:
    """The inputs of the model: buckets, numbers (NaN where unknown), vectors (zeros)."""
    categories = np.zeros((len(rows), len(spec["categorical"])), np.int64)
    numbers = np.full((len(rows), len(spec["numeric"])), np.nan, np.float32)
    vectors = np.zeros((len(rows), 2, spec["vector_dim"]), np.float32)
    for place, row in enumerate(rows):
        for at, column in enumerate(spec["categorical"]):
            text = str(row.get(column["name"].removeprefix("hash_"), ""))
            categories[place, at] = bucket(text, column["buckets"])
        for at, name in enumerate(spec["numeric"]):
            numbers[place, at] = row.get(name, np.nan)
        for at, name in enumerate(VECTORS):
            if name in row:
                vectors[place, at] = row[name]
    return {"categories": categories, "numbers": numbers, "vectors": vectors}


class Scorer:
    """An exported ranker.

    card: its kind, day, space, features in their order, labels, and calibration. Calling it with
    the three inputs returns the probabilities as the ranker gives them, and calibrated: (n, labels)
    each.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix == ".onnx":
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1  # a request is small; more threads wait for each other
            self.session = onnxruntime.InferenceSession(path, options)
            self.card = json.loads(self.session.get_modelmeta().custom_metadata_map[CARD])
            return
        import torch

        files = {f"{CARD}.json": ""}
        self.session = None
        self.program = torch.export.load(path, extra_files=files).module()
        self.card = json.loads(files[f"{CARD}.json"])

    def __call__(
        self, categories: np.ndarray, numbers: np.ndarray, vectors: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        if self.session is not None:
            inputs = {"categories": categories, "numbers": numbers, "vectors": vectors}
            # An input that the network has no use for is no input of its graph.
            known = {given.name for given in self.session.get_inputs()}
            return tuple(self.session.run(None, {k: v for k, v in inputs.items() if k in known}))
        import torch

        with torch.inference_mode():
            tensors = [torch.from_numpy(array) for array in (categories, numbers, vectors)]
            raw, calibrated = self.program(*tensors)
        return raw.numpy(), calibrated.numpy()


def main() -> None:
    """Print the calibrated probabilities of the rows in a JSON file, one row per line."""
    scorer = Scorer(Path(sys.argv[1]))
    rows = json.loads(Path(sys.argv[2]).read_text())
    _, calibrated = scorer(**arrays(rows, scorer.card["spec"]))
    for row in calibrated.tolist():
        print(json.dumps(dict(zip(scorer.card["spec"]["labels"], row, strict=True))))


if __name__ == "__main__":
    main()
