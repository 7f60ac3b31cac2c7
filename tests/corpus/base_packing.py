"""One small model, packed by each of the quantisation libraries."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from corpus.models import VOCABULARY, tiny_llama

HIDDEN, INNER = 128, 256

_LAYER = "model.layers.0"
LINEAR: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        **{f"{_LAYER}.self_attn.{name}_proj": (HIDDEN, HIDDEN) for name in "qkvo"},
        f"{_LAYER}.mlp.gate_proj": (INNER, HIDDEN),
        f"{_LAYER}.mlp.up_proj": (INNER, HIDDEN),
        f"{_LAYER}.mlp.down_proj": (HIDDEN, INNER),
    }
)
SHAPES: Mapping[str, tuple[int, int | None]] = MappingProxyType(
    {
        **LINEAR,
        "model.embed_tokens": (VOCABULARY, HIDDEN),
        "lm_head": (VOCABULARY, HIDDEN),
        f"{_LAYER}.input_layernorm": (HIDDEN, None),
        f"{_LAYER}.post_attention_layernorm": (HIDDEN, None),
        "model.norm": (HIDDEN, None),
    }
)
"""What the model's weights are before they are packed."""

Pack = Callable[[Path], None]
"""Writes the model in its packed form into a directory."""


@dataclass(frozen=True, slots=True)
class Packing:
    """One way to store the model, by the library that does it.

    ``tensors`` counts those in its file, ``open_`` the weights whose shape it does not tell.
    """

    writer: str
    module: str
    pack: Pack
    scheme: str
    compute_dtype: str
    tensors: int
    open_: int = 0


def whole_model(dtype: str = "float32") -> Any:
    torch = importlib.import_module("torch")
    model = tiny_llama(hidden_size=HIDDEN, intermediate_size=INNER)
    return model.to(getattr(torch, dtype))


def _plain(dtype: str, path: Path) -> None:
    whole_model(dtype).save_pretrained(path)


def _by_transformers(config: Callable[[], Any], path: Path, **options: Any) -> None:
    """Let Transformers quantise while it loads."""
    transformers = importlib.import_module("transformers")
    plain = path.with_name(".plain")
    whole_model().save_pretrained(plain)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        plain, quantization_config=config(), **options
    )
    model.save_pretrained(path)


def _bitsandbytes(path: Path, **options: object) -> None:
    transformers = importlib.import_module("transformers")
    _by_transformers(lambda: transformers.BitsAndBytesConfig(**options), path)


def _torchao(name: str, path: Path) -> None:
    torch = importlib.import_module("torch")
    transformers = importlib.import_module("transformers")
    quantization = importlib.import_module("torchao.quantization")
    config = getattr(quantization, name)(version=2)
    _by_transformers(lambda: transformers.TorchAoConfig(config), path, dtype=torch.bfloat16)


def _quanto(weights: str, path: Path) -> None:
    quanto = importlib.import_module("optimum.quanto")
    packed = quanto.QuantizedModelForCausalLM.quantize(
        whole_model(), weights=getattr(quanto, weights), exclude="lm_head"
    )
    packed.save_pretrained(path)


def _compressed(preset: str, path: Path) -> None:
    """Scales as a calibration gives them, then the library's own compressor."""
    torch = importlib.import_module("torch")
    quantization = importlib.import_module("compressed_tensors.quantization")
    compressors = importlib.import_module("compressed_tensors.compressors")
    model = whole_model("bfloat16")
    scheme = quantization.preset_name_to_scheme(preset, ["Linear"])
    config = quantization.QuantizationConfig(config_groups={"group_0": scheme}, ignore=["lm_head"])
    quantization.apply_quantization_config(model, config)
    for module in model.modules():
        scale = getattr(module, "weight_scale", None)
        if scale is None:
            continue
        groups = scale.shape[-1]
        largest = module.weight.reshape(module.weight.shape[0], groups, -1).abs().amax(-1)
        scale.data = (largest / 7).reshape(scale.shape).to(scale.dtype)
        if hasattr(module, "weight_global_scale"):
            module.weight_global_scale.data = torch.ones_like(module.weight_global_scale)
    compressor = compressors.ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    model.save_pretrained(path)
    compressor.update_config(path)


_BNB = ("bitsandbytes", "bitsandbytes")
_AO = ("torchao", "torchao")
_QUANTO = ("optimum-quanto", "optimum.quanto")
_CT = ("compressed-tensors", "compressed_tensors")

PACKINGS: Mapping[str, Packing] = MappingProxyType(
    {
        "fp32": Packing(
            "transformers", "transformers", partial(_plain, "float32"), "none", "fp32", 12
        ),
        "bf16": Packing(
            "transformers", "transformers", partial(_plain, "bfloat16"), "none", "bf16", 12
        ),
        "nf4": Packing(
            *_BNB,
            partial(_bitsandbytes, load_in_4bit=True, bnb_4bit_quant_type="nf4"),
            "nf4",
            "fp32",
            33,
        ),
        "fp4-nested": Packing(
            *_BNB,
            partial(
                _bitsandbytes,
                load_in_4bit=True,
                bnb_4bit_quant_type="fp4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype="bfloat16",
            ),
            "fp4",
            "bf16",
            47,
        ),
        "int8": Packing(*_BNB, partial(_bitsandbytes, load_in_8bit=True), "int8", "fp32", 26),
        "torchao-int8": Packing(
            *_AO, partial(_torchao, "Int8WeightOnlyConfig"), "torchao-int8", "bf16", 26
        ),
        "torchao-int8-dynamic": Packing(
            *_AO,
            partial(_torchao, "Int8DynamicActivationInt8WeightConfig"),
            "torchao-int8",
            "bf16",
            26,
        ),
        "torchao-float8": Packing(
            *_AO, partial(_torchao, "Float8WeightOnlyConfig"), "torchao-float8", "bf16", 19
        ),
        "quanto-int8": Packing(*_QUANTO, partial(_quanto, "qint8"), "quanto-int8", "fp32", 33),
        "quanto-float8": Packing(
            *_QUANTO, partial(_quanto, "qfloat8"), "quanto-float8", "fp32", 33
        ),
        "quanto-int4": Packing(*_QUANTO, partial(_quanto, "qint4"), "quanto-int4", "fp32", 40),
        "ct-int4": Packing(
            *_CT, partial(_compressed, "W4A16"), "compressed-tensors-int4", "bf16", 26
        ),
        "ct-int8": Packing(
            *_CT, partial(_compressed, "W8A8"), "compressed-tensors-int8", "bf16", 19
        ),
        "ct-int8-packed": Packing(
            *_CT, partial(_compressed, "W8A16"), "compressed-tensors-int8", "bf16", 26
        ),
        "ct-fp8": Packing(*_CT, partial(_compressed, "FP8_DYNAMIC"), "fp8", "bf16", 19),
        "ct-nvfp4": Packing(*_CT, partial(_compressed, "NVFP4A16"), "nvfp4", "bf16", 26),
        "ct-mxfp4": Packing(*_CT, partial(_compressed, "MXFP4A16"), "mxfp4", "bf16", 19),
    }
)
