"""Whether a base can be read, found out without loading it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from .errors import RefusedError
from .recipe import Recipe

_INDEX = "model.safetensors.index.json"


def check_base_files(recipe: Recipe) -> None:
    """Refuse a base directory whose files are missing or cut short.

    Of weights only the headers are read, which say how long their file has to be. A base that
    is no directory is the hub's to check.
    """
    directory = Path(recipe.base.model)
    if not directory.is_dir():
        if directory.is_absolute():
            raise RefusedError(f"base.model '{directory}'", "can't be loaded (no such directory)")
        return
    _read_json(directory / "config.json")
    for file in _weight_files(directory):
        what = f"base.model '{directory}'"
        try:
            with safe_open(file, framework="pt"):
                pass
        except OSError as error:
            raise RefusedError(what, f"{file.name} can't be read ({error})") from error
        except SafetensorError as error:
            fact = f"{file.name} is broken or cut short ({error})"
            raise RefusedError(what, fact, "copy or download it again") from error


def _weight_files(directory: Path) -> list[Path]:
    """Return the safetensors files the base is made of; older formats are left to torch."""
    index = directory / _INDEX
    if index.is_file():
        shards = _read_json(index).get("weight_map", {})
        return [directory / name for name in sorted(set(shards.values()))]
    found = sorted(directory.glob("*.safetensors"))
    if not found and not any(directory.glob("pytorch_model*.bin")):
        raise RefusedError(
            f"base.model '{directory}'", "can't be loaded (it holds no weights)", "check the path"
        )
    return found


def _read_json(file: Path) -> dict[str, Any]:
    what = f"base.model '{file.parent}'"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RefusedError(what, f"can't be loaded ({file.name} is missing)") from error
    except (OSError, ValueError) as error:
        raise RefusedError(what, f"{file.name} can't be read ({error})") from error
    if not isinstance(content, dict):
        raise RefusedError(what, f"{file.name} is not a JSON object")
    return content
