"""Loaded by Airflow when it starts: the other pages of this home, as entries of its navigation.

jobs/local/environment.py sets their addresses. Each opens in a tab of its own: a page of another
server may refuse to be shown in a frame.
"""

import json
import os
from pathlib import Path
from urllib.parse import quote

from airflow.plugins_manager import AirflowPlugin

ICON = Path(__file__).parents[3] / "embeddings" / "registry" / "templates" / "tree.svg"


def entry(name: str, address: str) -> dict[str, object]:
    """An entry of the navigation, as Airflow describes one."""
    view: dict[str, object] = {
        "name": name,
        "href": address,
        "destination": "nav",
        "nav_top_level": True,
    }
    if name == "Registry":
        # In the entry itself, so that it is shown also while the registry does not run.
        view["icon"] = f"data:image/svg+xml,{quote(ICON.read_text())}"
    return view


class EvergreenPages(AirflowPlugin):
    """One entry for each address in EVERGREEN_PAGES."""

    name = "evergreen_pages"
    external_views = [  # noqa: RUF012 - Airflow reads this attribute of the class
        entry(*page) for page in json.loads(os.environ.get("EVERGREEN_PAGES", "{}")).items()
    ]
