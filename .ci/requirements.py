"""Print every requirement of the project, its extras and its dependency groups for pip."""

from __future__ import annotations

import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
lists = [
    project["project"]["dependencies"],
    *project["project"]["optional-dependencies"].values(),
    *project["dependency-groups"].values(),
]
print(*(requirement.replace(" ", "") for group in lists for requirement in group))  # noqa: T201
