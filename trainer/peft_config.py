"""The recipe's adapter in the words of PEFT's configurations."""

from __future__ import annotations

from typing import Any

from peft import (
    EvaConfig,
    IA3Config,
    LoftQConfig,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    OFTConfig,
    PeftConfig,
)

from .errors import RefusedError
from .recipe import Recipe
from .sections.adapter import LOW_RANK, Adapter


def peft_config(recipe: Recipe, *, plain: bool = False) -> PeftConfig:
    """Return the configuration of the recipe's adapter.

    ``plain`` leaves the initialisation to the method's default: for a skeleton without values,
    and for weights that are about to be loaded. Raises RefusedError for `adapter.args` that
    PEFT does not take.
    """
    adapter = recipe.adapter
    targets = adapter.target_modules
    common: dict[str, Any] = {
        "target_modules": targets if isinstance(targets, str) else list(targets),
        "modules_to_save": list(adapter.modules_to_save) or None,
        "task_type": "SEQ_CLS" if recipe.task == "sequence-classification" else "CAUSAL_LM",
    }
    make = _lora if adapter.method in LOW_RANK else _other
    try:
        return make(adapter, common | adapter.args, plain=plain)
    except (TypeError, ValueError) as error:
        fact = " ".join(str(error).split())
        raise RefusedError("adapter", fact, "check adapter.args") from error


def _lora(adapter: Adapter, common: dict[str, Any], *, plain: bool) -> LoraConfig:
    if adapter.init == "loftq" and not plain:
        common["loftq_config"] = LoftQConfig(**common.get("loftq_config", {}))
    if adapter.init == "eva" and not plain:
        # By default EVA moves rank between modules; a recipe's rank is that of every module.
        # Labels a row, as of a classification, are no mask of its tokens.
        usual = {"rho": 1.0, "use_label_mask": common["task_type"] == "CAUSAL_LM"}
        common["eva_config"] = EvaConfig(**(usual | common.get("eva_config", {})))
    return LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        use_dora=adapter.method == "dora",
        use_rslora=adapter.method == "rslora",
        init_lora_weights=True if plain else _LORA_INITS.get(adapter.init, adapter.init),
        **common,
    )


_LORA_INITS: dict[str, Any] = {"default": True, "random": False}


def _other(adapter: Adapter, common: dict[str, Any], *, plain: bool) -> PeftConfig:
    own_way = plain or adapter.init == "default"
    if adapter.method == "ia3":
        common.setdefault("feedforward_modules", [])
        return IA3Config(init_ia3_weights=own_way, **common)
    if adapter.method == "oft":
        blocks = (
            {"r": 0} if "oft_block_size" in common else {"r": adapter.rank, "oft_block_size": 0}
        )
        return OFTConfig(init_weights=own_way, **(blocks | common))
    kind = LoHaConfig if adapter.method == "loha" else LoKrConfig
    return kind(r=adapter.rank, alpha=adapter.alpha, init_weights=own_way, **common)
