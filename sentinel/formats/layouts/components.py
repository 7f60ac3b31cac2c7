"""Models that lie in folders of their own inside one checkpoint, as diffusers' scripts save them.

A script that trains a whole model writes `checkpoint-N/unet/diffusion_pytorch_model.safetensors`
beside accelerate's files, and its moving average as `unet_ema`
(examples/text_to_image/train_text_to_image.py of https://github.com/huggingface/diffusers).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sentinel.errors import InputError
from sentinel.formats.layouts.base import files_at, place_at
from sentinel.formats.naming import shard_of
from sentinel.formats.shards import MODEL, has_weights, index_name, read_weights

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.formats.draft import Draft

_STEMS = ("diffusion_pytorch_model", MODEL)
_DENOISERS = frozenset({"transformer", "unet"})
_AVERAGE = "_ema"


@dataclass(frozen=True, slots=True)
class Component:
    """One model: its folder below the checkpoint, the stem of its files, and their names."""

    folder: str
    stem: str
    files: frozenset[str]

    @property
    def paths(self) -> frozenset[str]:
        """Return the files of its weights, relative to the checkpoint."""
        named = (
            name
            for name in self.files
            if name in {f"{self.stem}.safetensors", index_name(self.stem)}
            or ((shard := shard_of(name)) and shard.stem == self.stem)
        )
        return frozenset(f"{self.folder}/{name}" for name in named)

    def read(self, draft: Draft) -> None:
        """Read the headers of its weights."""
        read_weights(draft, self.files, self.stem, folder=f"{self.folder}/")


def components_at(path: Path) -> tuple[Component, ...]:
    """Return the models below a directory: the denoiser first, moving averages last."""
    try:
        folders = place_at(path).directories
    except InputError:
        return ()
    found = (_component(path, folder) for folder in sorted(folders))
    return tuple(sorted(filter(None, found), key=_rank))


def _component(path: Path, folder: str) -> Component | None:
    files = files_at(path / folder)
    stem = next((stem for stem in _STEMS if has_weights(files, stem)), None)
    return None if stem is None else Component(folder, stem, files)


def _rank(component: Component) -> tuple[bool, bool]:
    return component.folder.endswith(_AVERAGE), component.folder not in _DENOISERS
