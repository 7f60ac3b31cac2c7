"""The weights that are trained: which adapter, how large, how it begins, in which precision."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from .section import Precision, Section, refuse, require

Method = Literal["lora", "rslora", "dora", "loha", "lokr", "oft", "ia3"]

LOW_RANK = frozenset({"lora", "rslora", "dora"})
"""Methods that are PEFT's LoRA with a switch."""

RESIDUAL = frozenset({"pissa", "olora", "loftq"})
"""Initialisations that take their part out of the base's weights, which then are no longer the
ones in the base's files (PEFT's documentation of `init_lora_weights`)."""

_UNUSED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "loha": ("dropout",),
        "lokr": ("dropout",),
        "oft": ("alpha", "dropout"),
        "ia3": ("rank", "alpha", "dropout"),
    }
)
"""Method -> settings that PEFT's configuration of it does not have."""

_SET_ELSEWHERE = frozenset(
    {
        *("r", "lora_alpha", "alpha", "lora_dropout", "use_dora", "use_rslora", "task_type"),
        *("target_modules", "modules_to_save", "init_lora_weights", "init_weights"),
        "init_ia3_weights",
        *("peft_type", "inference_mode", "base_model_name_or_path"),
    }
)


def changes_base(init: str) -> bool:
    """Tell whether an initialisation takes its part out of the base's weights."""
    return init in RESIDUAL or init.startswith("pissa")


def _known_init(value: str) -> str:
    known = {"default", "random", "gaussian", "orthogonal", "eva", *RESIDUAL}
    if value not in known and not re.fullmatch(r"pissa_niter_\d+", value):
        refuse(f"{value!r} is none of {', '.join(sorted(known))}, pissa_niter_N")
    return value


class Adapter(Section):
    """The trained weights. ``dtype`` is what they, and modules_to_save, really have."""

    method: Method = Field("lora", description="kind of adapter, made by PEFT")
    rank: int = Field(
        default=8, ge=1, description="rank; for oft the number of blocks, without meaning for ia3"
    )
    alpha: int = Field(
        default=16, ge=1, description="scale times rank (rslora: times its root); not oft, ia3"
    )
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="share of the input dropped (lora, rslora, dora)"
    )
    target_modules: tuple[str, ...] | Literal["all-linear"] = Field(
        "all-linear", description="names of the modules that get an adapter"
    )
    modules_to_save: tuple[str, ...] = Field(
        (), description="modules that are trained and saved whole"
    )
    init: Annotated[str, AfterValidator(_known_init)] = Field(
        "default",
        description="how the weights begin: `default`, `random` (both factors; the adapter "
        "has an effect at once), `gaussian`, `orthogonal`, `pissa`, `pissa_niter_N`, `olora`, "
        "`loftq`, `eva`; only the first two for methods other than lora, rslora, dora",
    )
    dtype: Precision = Field("fp32", description="precision of all trained weights")
    autocast_adapter_dtype: bool = Field(
        default=False,
        description="PEFT's switch of that name: adapter weights in fp32 whatever `dtype` says; "
        "modules_to_save keep `dtype`",
    )
    args: dict[str, Any] = Field(
        default_factory=dict,
        description="more arguments of PEFT's configuration of the method "
        "(`decompose_both`, `oft_block_size`, `feedforward_modules`, `loftq_config`, ...)",
    )

    @property
    def changes_base(self) -> bool:
        """Tell whether this adapter's initialisation does so."""
        return changes_base(self.init)

    @property
    def reads_base(self) -> bool:
        """Tell whether the initialisation needs the base's weights as numbers (PEFT 0.21)."""
        return self.changes_base or self.init == "orthogonal"

    @model_validator(mode="after")
    def _method_fits(self) -> Adapter:
        for key in _UNUSED.get(self.method, ()):
            if getattr(self, key) != type(self).model_fields[key].default:
                refuse(f"{key} has no effect on method {self.method}: leave it out")
        if self.method not in LOW_RANK and self.init not in {"default", "random"}:
            refuse(f"init {self.init} is for methods lora, rslora and dora, not {self.method}")
        if self.init == "loftq":
            require("init loftq", "scipy", "scipy")
        for key in self.args:
            if key in _SET_ELSEWHERE:
                refuse(f"args.{key} is set by another key of adapter")
        return self
