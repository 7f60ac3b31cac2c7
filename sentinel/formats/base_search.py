"""Where the model under an adapter lies when nobody says so.

Asked in this order: the path that the trainer or the adapter's description names, the same name
in the cache of huggingface_hub, the name in a `config.json` beside the adapter or one directory
up, and a model that lies in one of the two itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sentinel.errors import InputError
from sentinel.formats.containers.json_text import read_json_object
from sentinel.formats.containers.on_demand import GGUF_SUFFIX, TORCH_SUFFIXES
from sentinel.formats.hub_cache import snapshot_of
from sentinel.formats.layouts.base import files_at
from sentinel.formats.layouts.parts import MODEL_CONFIG
from sentinel.formats.scalars import as_text
from sentinel.formats.shards import SUFFIX, has_weights
from sentinel.regular import is_file

if TYPE_CHECKING:
    from sentinel.checkpoint import Base, Checkpoint


SINGLE_FILES = (SUFFIX, *TORCH_SUFFIXES)
"""What the one file of a base may be called."""


def is_base(path: Path) -> bool:
    """Tell whether a model, a diffusers pipeline or one file of weights lies at a path."""
    if path.suffix in (*SINGLE_FILES, GGUF_SUFFIX) and is_file(path):
        return True
    return any(is_file(path / name) for name in (MODEL_CONFIG, "model_index.json"))


def base_paths(checkpoint: Checkpoint, cache: Path) -> Iterator[Path]:
    """Yield where the model under a checkpoint's adapter may lie, the surest place first.

    ``cache`` is that of huggingface_hub. Nothing is opened but a few small files.
    """
    named = checkpoint.settings.get("base.path") or (
        checkpoint.adapter.base_model if checkpoint.adapter else None
    )
    revision = as_text(checkpoint.settings.get("base.revision"))
    if isinstance(named, str):
        yield from _named(named, revision, cache)
    if checkpoint.adapter is None or checkpoint.root != checkpoint.path:
        return
    for directory in (checkpoint.path, checkpoint.path.parent):
        told = _told_beside(directory)
        if told is not None and told != named:
            yield from _named(told, None, cache)
        if _holds_model(directory):
            yield directory


def with_base(checkpoint: Checkpoint, base: Base | None) -> Checkpoint:
    """Add how the base that a checkpoint names is packed, where it does not tell itself.

    One that lies unpacked says nothing: it may have been packed while it was loaded.
    """
    if base is None or base.scheme == "none":
        return checkpoint
    found: dict[str, object] = {"base.quantization": base.scheme}
    if base.compute_dtype is not None:
        found["base.compute_dtype"] = base.compute_dtype
    return replace(checkpoint, settings={**found, **checkpoint.settings})


def _named(name: str, revision: str | None, cache: Path) -> Iterator[Path]:
    """Yield a name as a path, then as a model of the hub."""
    if "\0" in name or name.startswith(("//", "\\\\")):
        # Opening a network share would tell its owner who asks.
        return
    path = Path(name)
    if is_base(path):
        yield path
    snapshot = snapshot_of(cache, name, revision)
    if snapshot is not None:
        yield snapshot


def _told_beside(directory: Path) -> str | None:
    """Return the model that a configuration says it was loaded from."""
    # Asked by its name: beside one checkpoint may lie ten thousand.
    if not is_file(directory / MODEL_CONFIG):
        return None
    try:
        return as_text(read_json_object(directory / MODEL_CONFIG).get("_name_or_path")) or None
    except InputError:
        return None


def _holds_model(directory: Path) -> bool:
    return is_file(directory / MODEL_CONFIG) and has_weights(files_at(directory))
