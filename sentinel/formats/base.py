"""The model under an adapter: its weights by module, unpacked shapes, and how they are packed.

Headers, configuration files and a few small tensors (a JSON text, a shape) are read, never a
weight. What the keys of each scheme mean is said in `sentinel.formats.quantized`, what pickled
models keep beside their tensors in `sentinel.formats.base_pickled`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sentinel.checkpoint import Base, BaseWeight, Tensor, path_text
from sentinel.errors import ConfigError, InputError, MissingMemberError
from sentinel.formats.base_description import describe
from sentinel.formats.base_gguf import gguf_file_in, read_gguf_base
from sentinel.formats.base_pickled import Pickled, pickled_names, read_pickled
from sentinel.formats.base_search import SINGLE_FILES
from sentinel.formats.containers.on_demand import GGUF_SUFFIX
from sentinel.formats.containers.safetensors import read_safetensors_header
from sentinel.formats.draft import Draft
from sentinel.formats.files import open_regular
from sentinel.formats.layouts.base import files_at, place_at
from sentinel.formats.quantized.registry import by_module, unpack
from sentinel.formats.quantized.stored import Description, Packed, Stored
from sentinel.formats.scalars import as_count
from sentinel.formats.shards import MODEL, has_weights, read_weights
from sentinel.regular import is_directory, is_file

if TYPE_CHECKING:
    from pathlib import Path

_PIPELINE = "model_index.json"
_STEMS = (MODEL, "diffusion_pytorch_model")
_DENOISERS = frozenset({"transformer", "unet"})
_SAFETENSORS = ".safetensors"
_SMALL_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class _Model:
    """One model's weights, and the precision that they or their configuration name."""

    weights: tuple[BaseWeight, ...]
    declared: str | None
    compute_dtype: str | None


def read_base(path: Path) -> Base:
    """Read a base model: a directory with `config.json`, a diffusers pipeline, or one file.

    Its weights are safetensors, whole or in shards, else GGUF or what torch pickled. Those packed
    in a way nobody here knows have the scheme their configuration names, or "unknown", and no
    features. A pipeline's modules have their component's name in front. Raises ConfigError when
    the path is no directory and no file of weights, InputError when a file is broken or not
    there.
    """
    if is_file(path) and path.suffix == GGUF_SUFFIX:
        return read_gguf_base(path)
    if is_file(path) and path.suffix in SINGLE_FILES:
        return _base(path, _read_file(path))
    if not is_directory(path):
        raise ConfigError(
            f"base '{path_text(path)}'",
            fact="is no directory and no file of weights",
            todo="give the directory with its config.json",
        )
    components = _components(path)
    if not components:
        files = files_at(path)
        packed = gguf_file_in(path, files) if _stem_in(files) is None else None
        return read_gguf_base(packed) if packed else _base(path, _read_model(path))
    models = {name: _read_model(path / name) for name in components}
    first = models[components[0]]
    weights = tuple(
        _inside(name, weight) for name, model in models.items() for weight in model.weights
    )
    return _base(path, replace(first, weights=weights))


def _base(path: Path, model: _Model) -> Base:
    """Return the base; how it as a whole is packed say its weights, else its description."""
    schemes = sorted({weight.scheme for weight in model.weights} - {"none"})
    scheme = "+".join(schemes) or model.declared or "none"
    return Base(path, scheme, model.compute_dtype, model.weights)


def _components(path: Path) -> list[str]:
    """Return a pipeline's directories with weights; the denoiser, which is trained, comes first."""
    place = place_at(path)
    if _PIPELINE not in place.files:
        return []
    found = [name for name in sorted(place.directories) if _holds_model(files_at(path / name))]
    return sorted(found, key=lambda name: name not in _DENOISERS)


def _inside(component: str, weight: BaseWeight) -> BaseWeight:
    stored = weight.stored
    return replace(
        weight,
        module=f"{component}.{weight.module}",
        tensor=f"{component}.{weight.tensor}",
        stored=replace(stored, member=f"{component}/{stored.member}") if stored else None,
    )


def _read_file(path: Path) -> _Model:
    draft, pickled = Draft(path.parent), Pickled()
    if path.suffix == _SAFETENSORS:
        draft.read_tensors(path.name)
    else:
        pickled = read_pickled(draft, (path.name,))
    draft.raise_first()
    return _model(draft, pickled, Description())


def _read_model(path: Path) -> _Model:
    files = place_at(path).files
    description = describe(path, files)
    draft, pickled = Draft(path), Pickled()
    stem, names = _stem_in(files), pickled_names(files)
    if stem is not None:
        read_weights(draft, files, stem)
    elif names:
        pickled = read_pickled(draft, names)
    else:
        raise MissingMemberError(
            f"base '{path_text(path)}'",
            fact="holds no model.safetensors and no pytorch_model.bin",
            todo="give the directory that a model was saved to",
        )
    draft.raise_first()
    return _model(draft, pickled, description)


def _holds_model(files: frozenset[str]) -> bool:
    return _stem_in(files) is not None or bool(pickled_names(files))


def _stem_in(files: frozenset[str]) -> str | None:
    return next((stem for stem in _STEMS if has_weights(files, stem)), None)


def _model(draft: Draft, pickled: Pickled, description: Description) -> _Model:
    small = _SmallReader(draft.root)
    found: dict[str, Packed] = {}
    for module, parts in by_module(draft.tensors).items():
        values = pickled.values.get(module, {})
        stored = Stored(module, parts, description, small.read, small.metadata, values)
        packed = unpack(stored)
        if packed is not None:
            found[module] = packed
    weights = [_weight(module, packed) for module, packed in found.items()]
    weights += [one for module, one in pickled.wrapped.items() if module not in found]
    named = {packed.compute_dtype for packed in found.values() if packed.scheme != "none"}
    # The one precision that the packed weights are multiplied in, else the model's own.
    named = (named | pickled.precisions) - {None}
    compute_dtype = named.pop() if len(named) == 1 else description.dtype
    return _Model(tuple(weights), description.method, compute_dtype)


def _weight(module: str, packed: Packed) -> BaseWeight:
    tensor, shape = packed.tensor, packed.shape
    return BaseWeight(
        module=module,
        tensor=tensor.name,
        dtype=tensor.dtype,
        scheme=packed.scheme,
        # What a file says of the unpacked shape may be any number.
        out_features=as_count(shape[0]) if shape else None,
        in_features=as_count(shape[1]) if len(shape) > 1 else None,
        stored=tensor,
    )


class _SmallReader:
    """Small tensors and the metadata of the files of one model."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._metadata: dict[str, Mapping[str, str]] = {}

    def read(self, tensor: Tensor) -> bytes:
        """Return the bytes of a small tensor."""
        file = self._root / tensor.member
        if tensor.size_bytes > _SMALL_BYTES:
            raise InputError(
                f"tensor '{tensor.name}'",
                where=f"in '{path_text(file)}'",
                fact=f"has {tensor.size_bytes} bytes for a short text",
                todo="it is damaged",
            )
        with open_regular(file) as (opened, _size_bytes):
            opened.seek(tensor.offset)
            return opened.read(tensor.size_bytes)

    def metadata(self, tensor: Tensor) -> Mapping[str, str]:
        """Return the metadata of the file a tensor lies in; pickled ones have none."""
        if not tensor.member.endswith(_SAFETENSORS):
            return {}
        if tensor.member not in self._metadata:
            header = read_safetensors_header(self._root / tensor.member)
            self._metadata[tensor.member] = header.metadata
        return self._metadata[tensor.member]
