"""Adapters over bases that the quantisation libraries packed, and bases that do not fit."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from corpus import official, peft_cases
from corpus.case import BaseTruth, Case, Truth
from corpus.families import FAMILIES, Family
from corpus.models import VOCABULARY, adapted, seed_torch, tiny_llama, train

if TYPE_CHECKING:
    import numpy as np

HIDDEN, INNER = 128, 256
LORA = FAMILIES["lora"]

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


def _model(dtype: str = "float32") -> Any:
    torch = importlib.import_module("torch")
    model = tiny_llama(hidden_size=HIDDEN, intermediate_size=INNER)
    return model.to(getattr(torch, dtype))


def _plain(dtype: str, path: Path) -> None:
    _model(dtype).save_pretrained(path)


def _by_transformers(config: Callable[[], Any], path: Path, **options: Any) -> None:
    """Let Transformers quantise while it loads."""
    transformers = importlib.import_module("transformers")
    plain = path.with_name(".plain")
    _model().save_pretrained(plain)
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
        _model(), weights=getattr(quanto, weights), exclude="lm_head"
    )
    packed.save_pretrained(path)


def _compressed(preset: str, path: Path) -> None:
    """Scales as a calibration gives them, then the library's own compressor."""
    torch = importlib.import_module("torch")
    quantization = importlib.import_module("compressed_tensors.quantization")
    compressors = importlib.import_module("compressed_tensors.compressors")
    model = _model("bfloat16")
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


def _base(pack: Pack, place: Path, rng: np.random.Generator) -> Path:
    seed_torch(rng)
    pack(place / "base")
    return place / "base"


def _over(
    pack: Pack,
    place: Path,
    rng: np.random.Generator,
    *,
    family: Family = LORA,
    hidden: int = HIDDEN,
    **options: Any,
) -> Path:
    """Save an adapter that names the packed model as its base.

    It is made over a twin of the model, of another width where ``hidden`` says so.
    """
    seed_torch(rng)
    pack(place / "base")
    twin = tiny_llama(hidden_size=hidden, intermediate_size=INNER, **options)
    model = adapted(family, twin)
    model.peft_config["default"].base_model_name_or_path = str(place / "base")
    train(model)
    model.save_pretrained(place / "adapter")
    return place / "adapter"


def _zero_row(place: Path, rng: np.random.Generator, *, steps: int) -> Path:
    """A DoRA over a base of which one output of a weight is zero: its norm is divided by."""
    seed_torch(rng)
    base = _model()
    base.model.layers[0].self_attn.q_proj.weight.data[3] = 0
    base.save_pretrained(place / "base")
    model = adapted(FAMILIES["dora"], base)
    model.peft_config["default"].base_model_name_or_path = str(place / "base")
    if steps:
        train(model, steps=steps)
    model.save_pretrained(place / "adapter")
    return place / "adapter"


def _truths(packing: Packing) -> BaseTruth:
    is_packed = packing.scheme != "none"
    return BaseTruth(
        scheme=packing.scheme,
        compute_dtype=packing.compute_dtype,
        shapes=SHAPES,
        packed=len(LINEAR) if is_packed else 0,
        open_=packing.open_,
    )


_ADVICE = frozenset({"quanto-resume"})
"""Told of every adapter over quanto's bases, without any doubt in the adapter."""


def _packings() -> Iterator[Case]:
    for name, packing in PACKINGS.items():
        common: dict[str, Any] = {
            "writer": packing.writer,
            "needs": (packing.module, "transformers", "peft"),
            "base": _truths(packing),
        }
        yield Case(
            id=f"base/{name}",
            write=partial(_base, packing.pack),
            truth=Truth(layout="transformers-model", roles={"other": packing.tensors}),
            read=official.safetensors,
            **common,
        )
        yield Case(
            id=f"base/{name}-adapter",
            write=partial(_over, packing.pack),
            truth=peft_cases.truth_of(
                LORA, findings=_ADVICE if packing.writer == "optimum-quanto" else frozenset()
            ),
            read=peft_cases.SAFETENSORS,
            others=1,
            **common,
        )


_FP32 = PACKINGS["fp32"]
_WRITER: Mapping[str, Any] = MappingProxyType(
    {
        "writer": "peft",
        "needs": ("transformers", "peft"),
        "read": peft_cases.SAFETENSORS,
        "others": 1,
    }
)

CASES: tuple[Case, ...] = (
    *_packings(),
    Case(
        id="base/of-another-width",
        write=partial(_over, _FP32.pack, hidden=64),
        truth=peft_cases.truth_of(
            LORA, verdict="suspect", findings=frozenset({"adapter-shape-mismatch-base"})
        ),
        fault="an adapter of another base",
        **_WRITER,
    ),
    Case(
        id="base/of-another-model",
        write=partial(
            _over,
            _FP32.pack,
            family=Family(
                config="LoraConfig",
                family="lora",
                options={
                    "r": 4,
                    "target_modules": ["model.layers.7.self_attn.q_proj"],
                },
                roles={"lora_up": 1, "lora_down": 1},
            ),
            layers=8,
        ),
        truth=peft_cases.truth_of(
            LORA,
            roles={"lora_up": 1, "lora_down": 1},
            modules=frozenset({"model.layers.7.self_attn.q_proj"}),
            settings={},
            verdict="suspect",
            findings=frozenset({"adapter-keys-mismatch-base"}),
        ),
        fault="an adapter of another base",
        **_WRITER,
    ),
    Case(
        id="base/dora-zero-row",
        write=partial(_zero_row, steps=0),
        truth=peft_cases.truth_of(
            FAMILIES["dora"],
            verdict="suspect",
            findings=frozenset({"dora-zero-norm-rows", "dead-lora-up"}),
            idle=True,
        ),
        fault="DoRA over a row of norm zero",
        **_WRITER,
    ),
    Case(
        id="base/dora-zero-row-trained",
        write=partial(_zero_row, steps=2),
        truth=peft_cases.truth_of(
            FAMILIES["dora"],
            verdict="faulty",
            findings=frozenset({"dora-zero-norm-rows", "nan-values"}),
            usable=(),
        ),
        fault="DoRA over a row of norm zero",
        **_WRITER,
    ),
)
