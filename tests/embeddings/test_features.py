"""Rows of features: from a table and from a request alike."""

from __future__ import annotations

import numpy as np
import pytest

from embeddings.features import Bags, Vocabulary, damped, frequent, moments

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


def test_bags_of_a_table_and_of_requests_have_the_same_rows():
    """A text that is twice in a bag counts twice; a bag may be empty."""
    bags = Bags(np.array(["oslo", "rome", "oslo", "bergen"]), np.array([3, 0, 1]))
    rows = WORDS.rows({"city": bags}, 3)
    np.testing.assert_array_equal(rows.toarray(), [[0, 2, 0], [0, 0, 0], [1, 0, 0]])
    for row, bag in zip(rows, bags.counted(), strict=True):
        np.testing.assert_array_equal(row.toarray(), WORDS.row({"city": bag}).toarray())


def test_a_bag_is_its_texts_with_their_weights():
    """The text is that of a category; what has no column is named, and changes nothing."""
    asked = {"city": {"oslo": 2.0, "rome": 1.0}, "age": 10}
    expected = WORDS.row({"city": "oslo", "age": 10}).toarray() * [1, 2, 1]
    np.testing.assert_array_equal(WORDS.row(asked).toarray(), expected)
    assert WORDS.unknown(asked) == ["city=rome"]
    assert WORDS.row({"city": {"rome": 1.0}}).nnz == 0


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_the_weight_of_a_bag_is_finite_and_above_0(weight):
    with pytest.raises(ValueError, match=f"weight of 'oslo' in 'city' is {weight}; expected"):
        WORDS.row({"city": {"oslo": weight}})


def test_a_number_is_no_bag():
    with pytest.raises(ValueError, match="'age' is a finite number"):
        WORDS.row({"age": {"old": 1.0}})
