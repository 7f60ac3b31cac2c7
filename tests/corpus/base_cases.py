"""Adapters over bases that the quantisation libraries packed, and bases that do not fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from corpus import official, peft_cases
from corpus.base_packing import HIDDEN, INNER, LINEAR, PACKINGS, SHAPES, Pack, Packing, whole_model
from corpus.case import BaseTruth, Case, Truth
from corpus.families import FAMILIES, Family
from corpus.models import adapted, seed_torch, tiny_llama, train

if TYPE_CHECKING:
    import numpy as np

LORA = FAMILIES["lora"]


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
    base = whole_model()
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
            findings=frozenset({"dora-magnitude", "dora-zero-norm-rows", "dead-lora-up"}),
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
