"""Small texts beside the weights that say what lies in them, changed along with them.

Only what would be untrue is changed: where a tensor lies and how large all are, the precision a
model is loaded in, the sizes in a manifest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sentinel.formats.containers.json_text import read_json_object
from sentinel.formats.layouts import sentinel_train
from sentinel.formats.model_config import NAME as MODEL_CONFIG

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.receipt import CastTo

INDEX = ".index.json"
MANIFEST = sentinel_train.MANIFEST
_TORCH_NAMES: Mapping[str, str] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_DTYPE_KEYS = ("torch_dtype", "dtype")


def new_index(path: Path, keys: Mapping[str, str], size_bytes: int) -> bytes:
    """Return an index of shards with other keys and another total; raises InputError."""
    content = dict(read_json_object(path, unique=True))
    named = content.get("weight_map")
    if isinstance(named, dict):
        content["weight_map"] = {keys.get(key, key): file for key, file in named.items()}
    metadata = content.get("metadata")
    if isinstance(metadata, dict) and "total_size" in metadata:
        content["metadata"] = {**metadata, "total_size": size_bytes}
    return _text(content)


def new_model_config(path: Path, cast: CastTo) -> bytes | None:
    """Return a model's description that names its new precision, None where it names none."""
    content = dict(read_json_object(path))
    named = [key for key in _DTYPE_KEYS if isinstance(content.get(key), str)]
    if not named:
        return None
    return _text({**content, **dict.fromkeys(named, _TORCH_NAMES[cast])})


def new_manifest(path: Path, sizes: Mapping[str, int], cast: CastTo | None) -> bytes:
    """Return the bundled trainer's manifest for other files; a resume inherits its precision."""
    content = dict(read_json_object(path))
    content["files"] = {
        name: {"size_bytes": size} for name, size in sorted(sizes.items()) if name != MANIFEST
    }
    if cast is not None:
        content["adapter"] = _with_dtype(content.get("adapter"), cast)
        recipe = content.get("recipe")
        if isinstance(recipe, dict):
            content["recipe"] = {**recipe, "adapter": _with_dtype(recipe.get("adapter"), cast)}
    return _text(content)


def is_model_config(name: str) -> bool:
    """Tell whether a file is the description of a model that lies beside it."""
    return name == MODEL_CONFIG


def _with_dtype(value: object, cast: CastTo) -> object:
    return {**value, "dtype": cast} if isinstance(value, dict) else value


def _text(content: Mapping[str, object]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode(
        "utf-8", "surrogatepass"
    )
