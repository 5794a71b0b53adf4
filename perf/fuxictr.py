"""FuxiCTR's MaskNet, for comparisons with ours on the same rows.

FuxiCTR is no dependency: FUXICTR names folders, separated by colons, with the package `fuxictr`
(2.3.10) and its requirements, and with MaskNet.py of its model zoo.
"""

from __future__ import annotations

import logging
import os
import sys
from importlib import import_module
from typing import Any

from models.features import FeatureSpec


def find_peer() -> Any | None:
    """The class of FuxiCTR's MaskNet; None where FUXICTR is not set."""
    if "FUXICTR" not in os.environ:
        return None
    # Behind ours: what both have is that of the environment.
    sys.path += os.environ["FUXICTR"].split(":")
    logging.disable(logging.INFO)  # it logs its own set-up
    return import_module("MaskNet").MaskNet


def parallel_network(
    peer: Any, spec: FeatureSpec, padding: int, root: str, **options: object
) -> Any:
    """A parallel MaskNet of 3 blocks, with Adam and the rate 1e-3.

    padding: further rows of every table, beside its buckets. root: the folder of its checkpoints.
    options: further ones of FuxiCTR.
    """
    from fuxictr.features import FeatureMap

    columns = FeatureMap("evergreen", "")
    columns.num_fields = len(spec.categorical)
    columns.labels = list(spec.labels)
    for column in spec.categorical:
        columns.features[column.name] = {
            "source": "",
            "type": "categorical",
            "vocab_size": column.buckets + padding,
        }
    return peer(
        columns,
        model_type="ParallelMaskNet",
        parallel_num_blocks=3,
        optimizer="adam",
        loss="binary_crossentropy",
        learning_rate=1e-3,
        metrics=["AUC"],
        verbose=0,
        model_root=root,
        **options,
    )
