"""What the files beside a model's weights say about how they are packed.

`config.json` holds it as `quantization_config` (older compressed-tensors: `compression_config`,
MLX: `quantization`); some tools write files of their own beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sentinel.formats.containers.json_text import read_json_object
from sentinel.formats.layouts.parts import MODEL_CONFIG
from sentinel.formats.quantized.stored import Description, precision_named
from sentinel.formats.scalars import as_text

if TYPE_CHECKING:
    from pathlib import Path

_SECTIONS = ("quantization_config", "compression_config", "quantization")

# File → the section that holds the description ("" for the whole file), the method it implies.
_FILES: Mapping[str, tuple[str, str | None]] = {
    "hf_quant_config.json": ("quantization", "modelopt"),
    "quantize_config.json": ("", None),
    "quant_config.json": ("", None),
    "quanto_qmap.json": ("", "quanto"),
}


def describe(path: Path, files: frozenset[str]) -> Description:
    """Return how a model's directory describes its packing.

    Raises MissingMemberError without `config.json`, InputError when one of the files is broken.
    """
    config = read_json_object(path / MODEL_CONFIG)
    dtype = _dtype(config)
    for section in _SECTIONS:
        found = _object(config.get(section))
        if found:
            return Description(_method(found), found, dtype, config)
    for name, (section, implied) in _FILES.items():
        if name in files:
            content = read_json_object(path / name)
            settings = _object(content.get(section)) if section else content
            return Description(_method(settings) or implied or "gptq", settings, dtype, config)
    return Description(dtype=dtype, model=config)


def _object(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _method(settings: Mapping[str, object]) -> str | None:
    """Return the method; bitsandbytes' first configurations do not name it."""
    named = as_text(settings.get("quant_method"))
    if named is not None:
        return named.lower()
    is_bitsandbytes = settings.get("load_in_4bit") is True or settings.get("load_in_8bit") is True
    return "bitsandbytes" if is_bitsandbytes else None


def _dtype(config: Mapping[str, object]) -> str | None:
    """Return the precision of a model; one of several parts keeps it in its text part."""
    for holder in (config, _object(config.get("text_config"))):
        for name in ("dtype", "torch_dtype"):
            precision = precision_named(as_text(holder.get(name)))
            if precision is not None:
                return precision
    return None
