"""A LoRA as llama.cpp loads it: `<tensor>.lora_a` and `<tensor>.lora_b` in one GGUF file.

Source: convert_lora_to_gguf.py and src/llama-adapter.cpp of
https://github.com/ggml-org/llama.cpp: a change is alpha / rank times B·A, with an alpha of zero
just B·A.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from sentinel.checkpoint import AdapterConfig
from sentinel.formats.draft import Draft
from sentinel.formats.layouts import gguf_parts
from sentinel.formats.naming import step_of_path
from sentinel.formats.scalars import as_finite

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.checkpoint import Checkpoint, Member, Tensor
    from sentinel.formats.containers.gguf_metadata import GgufValue
    from sentinel.formats.layouts.base import Candidate, Place
    from sentinel.formats.settings import Setting

NAME = "gguf-lora"

_SETTINGS = {
    "general.architecture": "base.architecture",
    "general.base_model.0.name": "base.name",
    "general.base_model.0.repo_url": "base.url",
    "adapter.lora.task_name": "adapter.task",
}
_MARKS = {"general.type": "adapter", "adapter.type": "lora"}
_ALPHA = "adapter.lora.alpha"
_ALORA = "adapter.alora.invocation_tokens"
_EMBEDDING = "token_embd"
_UP = ".lora_b"
_MATRIX_AXES = 2


def recognise(place: Place) -> Candidate | None:
    """Take a GGUF file whose metadata call it a LoRA."""
    if not gguf_parts.is_gguf(place):
        return None
    metadata = gguf_parts.metadata_at(place.path)
    is_lora = all(metadata.get(key) == said for key, said in _MARKS.items())
    return place.candidate(NAME) if is_lora else None


def members(path: Path) -> tuple[Member, ...]:
    """Look at the file."""
    return gguf_parts.stat_set(path)


def complete(path: Path) -> bool | None:  # noqa: ARG001 - the protocol of layouts
    """Tell nothing: the file has no mark, only its length."""
    return None


def read(path: Path) -> Checkpoint:
    """Read the header; how the adapter was initialised, it does not tell."""
    draft = Draft(path.parent)
    version, metadata = gguf_parts.read_set(draft, path)
    adapter = AdapterConfig(
        rank=_rank(draft.tensors.values()),
        alpha=as_finite(metadata.get(_ALPHA)) or None,
    )
    found = draft.finish(
        path,
        NAME,
        complete=None,
        step=step_of_path(path),
        adapter=adapter,
        settings=_settings(version, metadata, adapter),
    )
    return replace(found, tensors=tuple(map(_understood, found.tensors)))


def _rank(tensors: Iterable[Tensor]) -> int | None:
    """Return the rank that all modules have in common."""
    found = {
        tensor.shape[-1]
        for tensor in tensors
        if tensor.name.endswith(_UP) and len(tensor.shape) >= _MATRIX_AXES
    }
    return found.pop() if len(found) == 1 else None


def _settings(
    version: int | None, metadata: Mapping[str, GgufValue], adapter: AdapterConfig
) -> dict[str, Setting]:
    found = gguf_parts.settings_of(version, metadata, _SETTINGS)
    found["adapter.method"] = "alora" if _ALORA in metadata else "lora"
    if adapter.rank is not None:
        found["adapter.rank"] = adapter.rank
    if adapter.alpha is not None:
        found["adapter.alpha"] = adapter.alpha
    return found


def _understood(tensor: Tensor) -> Tensor:
    """Return a tensor as PEFT means it, where its key alone does not tell that."""
    if tensor.role == "other":
        # Norms come along whole when the adapter was extracted from a trained model.
        return replace(tensor, role="modules_to_save")
    if tensor.module != _EMBEDDING or len(tensor.shape) != _MATRIX_AXES:
        return tensor
    if tensor.role != "lora_down":
        return replace(tensor, zero_at_init=False)
    # Rows are looked up in it, so it lies the other way round, and PEFT starts it at zero.
    rows, rank = tensor.shape
    return replace(tensor, shape=(rank, rows), strides=(1, rank), zero_at_init=True)
