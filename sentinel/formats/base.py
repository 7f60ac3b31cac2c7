"""The model under an adapter: its weights by module, unpacked shapes, and how they are packed.

Headers only, and the small JSON tensors in which bitsandbytes keeps what a 4-bit weight was
(`QuantState.as_dict`, bitsandbytes/functional.py of
https://github.com/bitsandbytes-foundation/bitsandbytes).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sentinel.checkpoint import Base, BaseWeight, Tensor, path_text
from sentinel.errors import ConfigError, InputError, MissingMemberError
from sentinel.formats.containers.json_text import parse_json_object, read_json_object
from sentinel.formats.draft import Draft
from sentinel.formats.files import open_regular
from sentinel.formats.layouts.base import place_at
from sentinel.formats.layouts.parts import MODEL_CONFIG
from sentinel.formats.scalars import as_count, as_text
from sentinel.formats.shards import has_weights, read_weights

if TYPE_CHECKING:
    from pathlib import Path

_QUANT_STATE = ".quant_state.bitsandbytes__"
_QUANT_STATE_LIMIT_BYTES = 64 * 1024
_PRECISIONS: Mapping[str, str] = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


@dataclass(frozen=True, slots=True)
class _Packing:
    scheme: str
    shape: tuple[int | None, int | None]


def read_base(path: Path) -> Base:
    """Read a base model's directory: `config.json` and safetensors, whole or in shards.

    Unquantised weights and those of bitsandbytes (nf4, fp4, int8) are understood; the ``scheme``
    of any other packing is its ``quant_method`` and features are None. Raises ConfigError when
    the path is no directory, InputError when a file in it is broken or not there.
    """
    if not path.is_dir():
        raise ConfigError(
            f"base '{path_text(path)}'",
            fact="is no directory",
            todo="give the directory with its config.json",
        )
    config = read_json_object(path / MODEL_CONFIG)
    files = place_at(path).files
    if not has_weights(files):
        raise MissingMemberError(
            f"base '{path_text(path)}'",
            fact="holds no model.safetensors",
            todo="give a model saved as safetensors",
        )
    draft = Draft(path)
    read_weights(draft, files)
    draft.raise_first()
    quantization = config.get("quantization_config")
    packing = quantization if isinstance(quantization, dict) else {}
    weights = tuple(_weights(path, draft.tensors, _declared(packing)))
    return Base(path, _scheme(weights, packing), _compute_dtype(config, packing), weights)


def _weights(
    path: Path, tensors: Mapping[str, Tensor], declared: str | None
) -> Iterator[BaseWeight]:
    states = {
        name.partition(_QUANT_STATE)[0]: tensor
        for name, tensor in tensors.items()
        if _QUANT_STATE in name
    }
    for name, tensor in tensors.items():
        if not name.endswith(".weight"):
            continue
        module = name.removesuffix(".weight")
        if name in states:
            packing = _four_bit(path, states[name])
        else:
            packing = _unpacked(tensor, module, tensors, declared)
        yield BaseWeight(module, name, tensor.dtype, packing.scheme, *packing.shape)


def _unpacked(
    tensor: Tensor, module: str, tensors: Mapping[str, Tensor], declared: str | None
) -> _Packing:
    shape = _features(tensor.shape)
    if tensor.dtype == "I8" and f"{module}.SCB" in tensors:
        return _Packing("int8", shape)
    if tensor.dtype in {"F32", "F16", "BF16", "F64"}:
        return _Packing("none", shape)
    return _Packing(declared or "unknown", (None, None))


def _four_bit(path: Path, state: Tensor) -> _Packing:
    """Read the JSON that bitsandbytes keeps as bytes in a tensor beside the packed weight."""
    scheme = state.name.partition(_QUANT_STATE)[2]
    file = path / state.member
    if state.size_bytes > _QUANT_STATE_LIMIT_BYTES:
        raise InputError(
            f"tensor '{state.name}'",
            where=f"in '{path_text(file)}'",
            fact=f"has {state.size_bytes} bytes for a short text",
            todo="it is damaged",
        )
    with open_regular(file) as (opened, _size_bytes):
        opened.seek(state.offset)
        content = parse_json_object(file, opened.read(state.size_bytes))
    shape = content.get("shape")
    extents = tuple(as_count(extent) for extent in shape) if isinstance(shape, list) else ()
    kind = as_text(content.get("quant_type"))
    return _Packing(kind or scheme, _features(extents))


def _features(shape: tuple[int | None, ...]) -> tuple[int | None, int | None]:
    """Return (out, in) of a weight [out, in, ...]; a vector has only out."""
    out_features = shape[0] if shape else None
    return out_features, shape[1] if len(shape) > 1 else None


def _declared(packing: Mapping[str, object]) -> str | None:
    return as_text(packing.get("quant_method"))


def _scheme(weights: tuple[BaseWeight, ...], packing: Mapping[str, object]) -> str:
    """Return how the base as a whole is packed: by its weights, else by its description."""
    schemes = sorted({weight.scheme for weight in weights} - {"none"})
    if schemes:
        return "+".join(schemes)
    return _declared(packing) or "none"


def _compute_dtype(config: Mapping[str, object], packing: Mapping[str, object]) -> str | None:
    """Return what the layers compute in: bitsandbytes says it, otherwise the weights' dtype."""
    if packing.get("load_in_4bit") is True:
        named = as_text(packing.get("bnb_4bit_compute_dtype")) or "float32"
    elif packing.get("load_in_8bit") is True:
        # MatMul8bitLt casts its inputs to float16 whatever the model's dtype is.
        named = "float16"
    else:
        named = as_text(config.get("dtype")) or as_text(config.get("torch_dtype")) or ""
    return _PRECISIONS.get(named.removeprefix("torch."))
