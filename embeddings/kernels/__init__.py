"""Compiled loops, and exchanges between workers.

Numba keeps compiled code beside the source, and recognises that it is out of date by the file of
the function alone. A function that has inlined another one from a changed file would stay as it
was. So all compiled code is kept in a folder named by the content of all files of this folder.
"""

import hashlib
from pathlib import Path
from typing import Any

import numba

HERE = Path(__file__).parent


def digest_of_sources(folder: Path) -> str:
    """A digest of the names and contents of the Python files in a folder."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.py")):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


# Where it may not be written, Numba uses a folder of the user.
config: Any = numba.config  # its options are set when it is imported, so no checker knows them
kept_in = Path(config.CACHE_DIR or HERE / "__pycache__")
config.CACHE_DIR = str(kept_in / f"numba-{digest_of_sources(HERE)}")
