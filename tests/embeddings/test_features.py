"""Rows of features: from a table and from a request alike."""

from __future__ import annotations

import numpy as np
import pytest

from embeddings.features import Vocabulary, damped, frequent, moments

AGES = np.array([10.0, 20.0, 30.0, np.nan])
WORDS = Vocabulary({"city": ("bergen", "oslo")}, {"age": moments(AGES)})


def test_a_table_and_a_request_have_the_same_rows():
    table = {"city": np.array(["oslo", "bergen", "", "rome"]), "age": AGES, "other": AGES}
    rows = WORDS.rows(table, 4)
    asked = [{"city": "oslo", "age": 10}, {"city": "bergen", "age": 20.0}, {"age": 30}]
    for row, features in zip(rows[:3], asked, strict=True):
        np.testing.assert_array_equal(row.toarray(), WORDS.row(features).toarray())
    assert rows[3].nnz == 0  # an unknown value and a missing number
    given = damped(AGES[:3])
    standard = (given - given.mean()) / given.std()
    np.testing.assert_allclose(rows[:3, 2].toarray().ravel(), standard, rtol=1e-5)


def test_the_mean_is_not_a_missing_number():
    mean = np.expm1(WORDS.numbers["age"][0])
    assert WORDS.row({"age": mean}).nnz == 1


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"town": "oslo"}, "no feature 'town'.*'city', 'age'"),
        ({"citi": "oslo"}, "no feature 'citi'. Did you mean 'city'"),
        ({"city": "olso"}, "'city' has no value 'olso'. Did you mean 'oslo'"),
        ({"city": 3.0}, "'city' has no value 3.0"),
        ({"age": "old"}, "'age' is a finite number; given: 'old'"),
        ({"age": float("nan")}, "'age' is a finite number"),
    ],
)
def test_what_is_unknown_is_named(features, message):
    with pytest.raises(ValueError, match=message):
        WORDS.row(features)


def test_a_vocabulary_survives_its_text():
    assert Vocabulary.read(WORDS.text()) == WORDS
    with pytest.raises(ValueError, match="cannot be read"):
        Vocabulary.read('{"categories": 3}')


def test_only_frequent_values_have_a_column():
    values, counts = np.array(["b", "", "a", "rare"]), np.array([5, 99, 7, 1])
    assert frequent(values, counts, least=2) == ("a", "b")
