"""The seam of the rankers: kinds are found by file name, and mistakes are named."""

from __future__ import annotations

import subprocess
import sys

import pytest

from models import rankers
from models.rankers.base import RankerError, kind_of, kinds, ranker_class, read_options

NOT_A_RANKER = "def helper():\n    RANKER = None\n"
TOY = """
from torch import nn
from models.rankers.base import RankerOptions

class Options(RankerOptions):
    width: int = 3

class Toy(nn.Module):
    def __init__(self, spec, options):
        super().__init__()

RANKER = Toy
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A further folder of rankers, empty at first."""
    monkeypatch.setattr(rankers, "__path__", [*rankers.__path__, str(tmp_path)])
    yield tmp_path
    for file in tmp_path.glob("*.py"):
        sys.modules.pop(f"models.rankers.{file.stem}", None)


def test_a_file_that_defines_ranker_is_a_kind(folder):
    """Its name is the kind; a file without RANKER at its top level is none."""
    before = kinds()
    (folder / "toy_of_kinds.py").write_text(TOY)
    (folder / "some_helper.py").write_text(NOT_A_RANKER)
    assert kinds() == sorted([*before, "toy_of_kinds"])
    assert ranker_class("toy_of_kinds").__name__ == "Toy"


def test_the_kind_of_a_ranker_is_that_of_its_file(folder):
    (folder / "toy_by_file.py").write_text(TOY)
    toy = ranker_class("toy_by_file")
    assert kind_of(toy(None, None)) == "toy_by_file"


def test_a_class_that_is_not_the_ranker_of_its_file_has_no_kind(folder):
    (folder / "toy_with_rest.py").write_text(TOY + "\nclass Rest(Toy):\n    pass\n")
    rest = sys.modules[ranker_class("toy_with_rest").__module__].Rest
    with pytest.raises(RankerError, match="Rest has no kind"):
        kind_of(rest(None, None))


def test_an_unknown_kind_is_named_with_the_kinds_that_exist():
    some = kinds()[0]
    with pytest.raises(
        RankerError, match=rf"no ranker '{some}x'.*mean '{some}'.*kinds are: .*{some}"
    ):
        ranker_class(f"{some}x")


def test_an_invalid_option_is_named_with_its_kind_and_the_options(folder):
    (folder / "toy_optional.py").write_text(TOY)
    assert read_options("toy_optional", {"width": 5}).width == 5
    with pytest.raises(RankerError, match=r"'toy_optional': widht: .*options are: width"):
        read_options("toy_optional", {"widht": 5})
    with pytest.raises(RankerError, match=r"width: .*integer.*given: 'wide'"):
        read_options("toy_optional", {"width": "wide"})


def test_options_are_frozen(folder):
    (folder / "toy_frozen.py").write_text(TOY)
    options = read_options("toy_frozen", {})
    with pytest.raises(ValueError, match="frozen"):
        options.width = 4


def test_kinds_are_listed_without_heavy_imports():
    """The settings list them in every command: that must not cost a second of imports."""
    code = """
import sys
from models.rankers.base import kinds
print(kinds(), {"torch", "pyarrow", "mlflow"} & set(sys.modules))
"""
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert output.strip() == f"{kinds()} set()"
