"""The recipes that come with the trainer, listed with what each is for."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

DIRECTORY = Path(__file__).parent / "recipes"


class BundledRecipes(argparse.Action):
    """The option that prints a line a recipe, its path and its first sentence, and ends."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "nargs": 0, "default": argparse.SUPPRESS})

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Print and end with code 0."""
        for path in sorted(DIRECTORY.rglob("*.yaml")):
            if path.name != "index.yaml":
                print(f"{path}  {first_sentence(path.read_text(encoding='utf-8'))}")
        parser.exit()


def first_sentence(text: str) -> str:
    """Return a recipe's first comment up to the end of its first sentence."""
    words = []
    for line in text.splitlines():
        if not line.startswith("# "):
            break
        words.append(line.removeprefix("# "))
    return " ".join(words).partition(". ")[0].partition(": ")[0].rstrip(".")
