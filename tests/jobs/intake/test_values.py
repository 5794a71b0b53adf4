"""Ids, numbers and labels, as they are in a file and as they land."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.intake.dialect import NULLS, Dialect
from jobs.intake.values import READERS

INTEGERS = st.integers(-(1 << 63), (1 << 63) - 1)


def read(kind: str, values: list, arrow: pa.DataType | None = None) -> tuple[list, dict]:
    found, faults = READERS[kind](pa.array(values, arrow), Dialect())
    return found.to_pylist(), {reason: rows.tolist() for reason, rows in faults.items()}


@pytest.mark.parametrize("written", ["5", "5.0", "5.", " 5 ", b"5.0", 5, 5.0, Decimal("5.00")])
def test_one_person_has_one_id_however_a_number_is_written(written):
    assert read("text", [written]) == (["5"], {})


@pytest.mark.parametrize(
    ("written", "id_"),
    [
        ("05", "05"),
        ("007.0", "007.0"),
        ("-3", "-3"),
        ("1e5", "1e5"),
        ("12e4", "12e4"),
        ("v1.0", "v1.0"),
        ("1.5", "1.5"),
        (1.5, "1.5"),
        ("2.0000001E7", "20000001"),
        ("2e+16", "20000000000000000"),
        (2.0000001e7, "20000001"),
        ("9223372036854775807", "9223372036854775807"),
        ("José", "José"),
        (True, "true"),
        ("a\0", "a\0"),
    ],
)
def test_an_id_is_what_it_was(written, id_):
    if written == "2e+16":
        assert read("text", [written]) == ([None], {"not_exact": [True]})
        return
    assert read("text", [written, written]) == ([id_, id_], {})


@given(st.lists(INTEGERS, min_size=1))
def test_integers_keep_every_digit(numbers):
    ids = [str(number) for number in numbers]
    assert read("text", numbers, pa.int64())[0] == ids
    assert read("text", ids)[0] == ids


@given(st.lists(st.none() | st.integers(1 - (1 << 53), (1 << 53) - 1), min_size=1))
def test_a_column_with_holes_that_became_one_of_floats_has_the_same_ids(numbers):
    """As pandas keeps and writes it."""
    floats = [None if number is None else float(number) for number in numbers]
    ids = [None if number is None else str(number) for number in numbers]
    assert read("text", floats, pa.float64())[0] == ids
    written = [None if number is None else f"{float(number):.1f}" for number in numbers]
    assert read("text", written, pa.string())[0] == ids


def test_a_float_that_may_be_two_whole_numbers_is_no_id():
    big = float((1 << 53) + 2)
    assert read("text", [big, 1.0]) == ([None, "1"], {"not_exact": [True, False]})


def test_bytes_that_are_not_utf8_are_no_id():
    values = [b"Jos\xe9", b"Jos\xe8", "José".encode()]
    assert read("text", values) == ([None, None, "José"], {"not_utf8": [True, True, False]})


@pytest.mark.parametrize("nothing", NULLS)
@pytest.mark.parametrize("kind", ["text", "number", "whole", "label"])
def test_a_text_that_means_nothing_is_null(kind, nothing):
    assert read(kind, [nothing, f" {nothing} "]) == ([None, None], {})


@pytest.mark.parametrize(
    ("kind", "good", "value", "bad"),
    [
        ("number", "1e-3", 0.001, "1,5"),
        ("number", "-2", -2.0, "1_000"),
        ("number", "inf", float("inf"), "five"),
        ("number", Decimal("0.5"), 0.5, None),
        ("whole", "12.0", 12, "12.5"),
        ("whole", 7.0, 7, 7.5),
        ("label", "TRUE", 1, "maybe"),
        ("label", "0.0", 0, "0.5"),
        ("label", False, 0, None),
        ("label", "2", 2, "yes"),  # a whole number, which validation refuses by its value
    ],
)
def test_what_is_no_number_is_null_and_told(kind, good, value, bad):
    assert read(kind, [good]) == ([value], {})
    if bad is not None:
        assert read(kind, [bad]) == ([None], {"unreadable": [True]})
