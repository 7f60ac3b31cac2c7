"""Print what the project requires, for pip.

Without an argument everything but the group `browser`, whose wheel brings a driver of 150 MB: its
dependencies, its extras and its dependency groups. With arguments those groups alone.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
groups = project["dependency-groups"]
lists = [groups[name] for name in sys.argv[1:]] or [
    project["project"]["dependencies"],
    *project["project"]["optional-dependencies"].values(),
    *(group for name, group in groups.items() if name != "browser"),
]
print(*(requirement.replace(" ", "") for group in lists for requirement in group))  # noqa: T201
