"""A base in llama.cpp's form: the weights of a GGUF file under its own names of modules.

Image models are packed under the names they have in safetensors; shapes that ggml cannot hold
are kept in the metadata as `comfy.gguf.orig_shape.<tensor>`
(https://github.com/city96/ComfyUI-GGUF).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sentinel.checkpoint import Base, BaseWeight, Tensor, path_text
from sentinel.dtypes import BLOCKS
from sentinel.errors import ConfigError
from sentinel.formats.containers.gguf_metadata import GgufArray, GgufValue
from sentinel.formats.containers.on_demand import GGUF_SUFFIX
from sentinel.formats.draft import Draft
from sentinel.formats.layouts.gguf_parts import read_set
from sentinel.formats.naming import shard_of

if TYPE_CHECKING:
    from pathlib import Path

_WEIGHT = ".weight"
_EXPERTS = "_exps"
_ORIGINAL_SHAPE = "comfy.gguf.orig_shape."
_MATRIX_AXES = 2
_STACKED_AXES = 3


def gguf_file_in(path: Path, files: frozenset[str]) -> Path | None:
    """Return the one GGUF model in a directory, None when it holds none.

    Raises ConfigError when it holds several: one model is often packed in several ways.
    """
    named = {name: shard_of(name) for name in sorted(files) if name.endswith(GGUF_SUFFIX)}
    found = [name for name, shard in named.items() if shard is None or shard.number == 1]
    if len(found) > 1:
        raise ConfigError(
            f"base '{path_text(path)}'",
            fact=f"holds {len(found)} GGUF models, '{found[0]}' and others",
            todo="give the file of one",
        )
    return path / found[0] if found else None


def read_gguf_base(path: Path) -> Base:
    """Read the headers of a GGUF model; what its weights are multiplied in, it does not tell.

    Raises InputError when the file or one of its parts is broken or not there.
    """
    draft = Draft(path.parent)
    _version, metadata = read_set(draft, path)
    draft.raise_first()
    found = (_weight(tensor, metadata) for tensor in draft.tensors.values())
    weights = tuple(weight for weight in found if weight is not None)
    schemes = sorted({weight.scheme for weight in weights} - {"none"})
    return Base(path, "+".join(schemes) or "none", None, weights)


def _weight(tensor: Tensor, metadata: Mapping[str, GgufValue]) -> BaseWeight | None:
    """Return a tensor as a module's weight, None for a bias and its like."""
    named = tensor.name.endswith(_WEIGHT)
    shape = _shape(tensor, metadata)
    if not named and len(shape) < _MATRIX_AXES:
        return None
    is_stacked = _EXPERTS in tensor.name and len(shape) == _STACKED_AXES
    features = shape[1:] if is_stacked else shape
    return BaseWeight(
        module=tensor.name.removesuffix(_WEIGHT),
        tensor=tensor.name,
        dtype=tensor.dtype,
        scheme=f"gguf-{tensor.dtype.lower()}" if tensor.dtype in BLOCKS else "none",
        out_features=features[0] if features else None,
        in_features=features[1] if len(features) > 1 else None,
        stored=tensor,
    )


def _shape(tensor: Tensor, metadata: Mapping[str, GgufValue]) -> tuple[int, ...]:
    """Return the shape before packing: a fitting one of the metadata, else the tensor's own."""
    found = metadata.get(_ORIGINAL_SHAPE + tensor.name)
    if not isinstance(found, GgufArray) or found.count != len(found.first):
        return tensor.shape
    extents = tuple(extent for extent in found.first if type(extent) is int and extent > 0)
    fits = len(extents) == found.count and math.prod(extents) == tensor.numel
    return extents if fits else tensor.shape
