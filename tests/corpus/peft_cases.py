"""What PEFT writes: every family as it begins and after real updates, and other ways to save."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from corpus import official
from corpus.case import Case, Truth
from corpus.families import FAMILIES, Family
from corpus.peft_writing import (
    classifier,
    convolutions,
    experts,
    fresh,
    in_half,
    loftq,
    pissa_converted,
    prepared,
    two_adapters,
    updated,
    with_activations,
    with_gradients,
    with_nothing,
)

WEIGHTS = "adapter_model.safetensors"
SAFETENSORS = official.in_file(WEIGHTS, official.safetensors)
DOUBT = frozenset({"dead-lora-up"})
"""What an adapter that begins without effect is asked when nothing tells of updates."""

_PAIR = frozenset({(4, 8.0, 2.0)})
_LORA = FAMILIES["lora"]


def truth_of(family: Family, **changes: Any) -> Truth:
    """What holds for a family's file in PEFT's own layout after some updates."""
    known: dict[str, Any] = {
        "layout": "peft",
        "complete": True,
        "roles": family.roles,
        "family": family.family,
        "modules": family.modules,
        "pairs": family.pairs,
        "idle": None if family.idle is None else False,
        "settings": family.settings,
    }
    return Truth(**{**known, **changes})


def _families() -> Iterator[Case]:
    for name, family in FAMILIES.items():
        is_doubtful = family.idle is True
        verdict = {"verdict": "suspect", "findings": DOUBT} if is_doubtful else {}
        common = {"writer": "peft", "needs": ("peft", *family.needs), "read": SAFETENSORS}
        yield Case(
            id=f"peft/{name}-start",
            write=partial(fresh, family),
            truth=truth_of(family, idle=family.idle, **verdict),
            slow=True,
            **common,
        )
        yield Case(
            id=f"peft/{name}", write=partial(updated, family), truth=truth_of(family), **common
        )


_BASE = {"writer": "peft", "needs": ("peft",), "read": SAFETENSORS}
_DOUBTFUL = {"verdict": "suspect", "findings": DOUBT, "idle": True}
_EXPERTS = "model.layers.0.mlp.experts"

CASES: tuple[Case, ...] = (
    *_families(),
    Case(
        id="peft/lora-eva-start",
        write=prepared("eva", with_nothing, eva_config="EvaConfig"),
        truth=truth_of(_LORA, settings={"adapter.init": "eva"}, **_DOUBTFUL),
        **_BASE,
    ),
    Case(
        id="peft/lora-ga-start",
        write=prepared("lora_ga", with_gradients, lora_ga_config="LoraGAConfig"),
        truth=truth_of(_LORA, settings={"adapter.init": "lora_ga"}),
        **_BASE,
    ),
    Case(
        id="peft/lora-corda-start",
        write=prepared("corda", with_activations),
        truth=truth_of(_LORA, settings={"adapter.init": "corda"}),
        **_BASE,
    ),
    Case(
        id="peft/lora-loftq-start",
        write=loftq,
        truth=truth_of(_LORA, settings={"adapter.init": "loftq"}),
        writer="peft",
        needs=("peft", "scipy"),
        read=SAFETENSORS,
    ),
    Case(
        id="peft/lora-pissa-converted",
        write=pissa_converted,
        truth=truth_of(_LORA, pairs=frozenset({(8, 16.0, 2.0)}), settings={"adapter.rank": 8}),
        others=1,
        **_BASE,
    ),
    Case(
        id="peft/lora-pickled",
        write=partial(updated, _LORA, safe_serialization=False),
        truth=truth_of(_LORA),
        writer="peft",
        needs=("peft",),
        read=official.in_file("adapter_model.bin", official.torch_file),
    ),
    Case(
        id="peft/two-adapters-first",
        write=partial(two_adapters, "."),
        truth=truth_of(_LORA, settings={"adapter.init": "false"}),
        others=1,
        **_BASE,
    ),
    Case(
        id="peft/two-adapters-second",
        write=partial(two_adapters, "critic"),
        truth=truth_of(
            _LORA,
            roles={"lora_up": 1, "lora_down": 1},
            modules=frozenset({"model.layers.0.self_attn.q_proj"}),
            pairs=frozenset({(2, 6.0, 3.0)}),
            settings={"adapter.rank": 2},
        ),
        others=1,
        **_BASE,
    ),
    Case(
        id="peft/head-bf16",
        write=partial(classifier, "bfloat16"),
        truth=truth_of(_LORA, roles={**_LORA.roles, "modules_to_save": 1}),
        **_BASE,
    ),
    Case(
        id="peft/head-fp16",
        write=partial(classifier, "float16"),
        truth=truth_of(
            _LORA,
            roles={**_LORA.roles, "modules_to_save": 1},
            verdict="suspect",
            findings=frozenset({"mixed-dtypes"}),
        ),
        fault="an fp16 head beside fp32 matrices",
        **_BASE,
    ),
    Case(
        id="peft/lora-bf16",
        write=partial(in_half, "bfloat16"),
        truth=truth_of(_LORA, settings={"precision.adapter": "bf16"}),
        **_BASE,
    ),
    Case(
        id="peft/lora-fp16",
        write=partial(in_half, "float16"),
        truth=truth_of(_LORA, settings={"precision.adapter": "fp16"}),
        **_BASE,
    ),
    Case(
        id="peft/lora-experts",
        write=experts,
        truth=truth_of(
            _LORA,
            roles={"lora_up": 3, "lora_down": 3},
            modules=frozenset(
                {"model.layers.0.self_attn.q_proj", _EXPERTS, f"{_EXPERTS}.base_layer"}
            ),
        ),
        **_BASE,
    ),
    Case(
        id="peft/lora-convolutions",
        write=convolutions,
        truth=truth_of(
            _LORA,
            roles={"lora_up": 4, "lora_down": 4},
            modules=frozenset({"0", "1", "2", "2.out_proj"}),
            settings={"adapter.init": "false"},
        ),
        **_BASE,
    ),
)
