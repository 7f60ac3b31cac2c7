"""Which optimizers a recipe can name, and what each needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from types import MappingProxyType
from typing import Any, Literal

from pydantic import Field, model_validator

from .section import Section, refuse, require

OptimizerName = Literal[
    "adamw",
    "adamw-fused",
    "adamw-8bit",
    "paged-adamw",
    "paged-adamw-8bit",
    "lion",
    "lion-8bit",
    "adafactor",
    "prodigy",
    "prodigy-plus",
    "sgd",
    "schedule-free",
    "schedule-free-sgd",
]


@dataclass(frozen=True, slots=True)
class Kind:
    """An optimizer before it is built.

    ``rate`` is the learning rate when the recipe names none; ``moments`` how many values it
    keeps for each trained one, ``moment_bytes`` how large each is (None: as the trained one);
    ``package`` the module that brings it and its distribution.
    """

    rate: float
    moments: float
    moment_bytes: float | None = None
    package: tuple[str, str] | None = None

    @property
    def keeps_fp32(self) -> bool:
        """Tell whether its own values are in fp32 whatever the weights are in."""
        return self.moment_bytes == 4  # noqa: PLR2004


_BNB = ("bitsandbytes", "bitsandbytes")
_SCHEDULE_FREE = ("schedulefree", "schedulefree")

OPTIMIZERS: Mapping[OptimizerName, Kind] = MappingProxyType(
    {
        "adamw": Kind(2e-4, 2),
        "adamw-fused": Kind(2e-4, 2),
        "adamw-8bit": Kind(2e-4, 2, 1, _BNB),
        "paged-adamw": Kind(2e-4, 2, 4, _BNB),
        "paged-adamw-8bit": Kind(2e-4, 2, 1, _BNB),
        "lion": Kind(3e-5, 1, None, ("lion_pytorch", "lion-pytorch")),
        "lion-8bit": Kind(3e-5, 1, 1, _BNB),
        "adafactor": Kind(1e-3, 0.1, 4),
        "prodigy": Kind(1.0, 4, None, ("prodigyopt", "prodigyopt")),
        "prodigy-plus": Kind(1.0, 3, 4, ("prodigyplus", "prodigy-plus-schedule-free")),
        "sgd": Kind(1e-2, 1),
        "schedule-free": Kind(2.5e-3, 2, None, _SCHEDULE_FREE),
        "schedule-free-sgd": Kind(1.0, 1, None, _SCHEDULE_FREE),
    }
)
"""Rates are those the packages' own pages name as a start: Prodigy estimates its own and wants
1.0, Lion a third to a tenth of AdamW's, Adafactor 1e-3 when its rate is fixed, schedule-free a
larger one than its relatives."""


class Optimizer(Section):
    """Which optimizer, and arguments handed to its constructor as they are."""

    name: OptimizerName = Field("adamw-fused", description="the optimizer")
    args: dict[str, Any] = Field(
        default_factory=dict, description="arguments of its constructor, as its library names them"
    )

    @model_validator(mode="after")
    def _args_are_free(self) -> Optimizer:
        for key, instead in (("lr", "training.learning_rate"), ("fused", "the optimizer's name")):
            if key in self.args:
                refuse(f"args.{key} is set by {instead}")
        for key, value in self.args.items():
            if isinstance(value, float) and not isfinite(value):
                refuse(f"args.{key} is {value}, which a manifest can't hold: leave it out")
        package = OPTIMIZERS[self.name].package
        if package:
            require(self.name, *package)
        return self

    @property
    def estimates_rate(self) -> bool:
        """Tell whether Adafactor is asked to find its own learning rate."""
        return self.name == "adafactor" and bool(self.args.get("relative_step", False))
