"""Facts are found by their declaration, alone or as one of a family."""

from __future__ import annotations

import pytest

from embeddings.facts import Fact, declaration, headlines

LOSS = Fact("loss", "the final loss", better="lower", headline=True)
AUC = Fact("auc_<label>", "area under the ROC curve", better="higher")
RATE = Fact("<role>_rate", "share of positives", unit="share", headline=True)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("loss", LOSS),
        ("auc_click", AUC),
        ("champion_rate", RATE),
        ("loss_click", None),
        ("auc_", None),
        ("_rate", None),
        ("my_auc_click", None),
    ],
)
def test_a_name_is_declared_by_the_fact_or_family_it_fits(name, expected):
    assert declaration([LOSS, AUC, RATE], name) is expected


def test_only_declared_headlines_are_chosen():
    facts = {"loss": 0.5, "auc_click": 0.7, "champion_rate": 0.1, "undeclared": 1}
    assert headlines([LOSS, AUC, RATE], facts) == {"loss": 0.5, "champion_rate": 0.1}
