"""What all sections of a recipe have in common."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

from pydantic import BaseModel, ConfigDict

Precision = Literal["fp32", "bf16", "fp16"]


class Section(BaseModel):
    """A part of the recipe: closed (no unknown keys) and never changed after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


def refuse(sentence: str) -> None:
    """Say what is impossible; pydantic adds the place."""
    raise ValueError(sentence)


def require(value: str, module: str, distribution: str) -> None:
    """Refuse a setting whose package is not installed."""
    if find_spec(module) is None:
        refuse(f"{value} needs the package {distribution}, which is not installed")
