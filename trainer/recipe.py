"""What a training can be told: the recipe's sections, their defaults, what excludes what.

Field names are the keys of the YAML file. A combination that could not work, or that would
silently ignore something the user wrote, is refused here, before any model is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from math import isfinite
from types import MappingProxyType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Precision = Literal["fp32", "bf16", "fp16"]
OptimizerName = Literal["adamw", "adamw-fused", "prodigy", "prodigy-plus", "adafactor"]
SchedulerName = Literal["constant", "constant-with-warmup", "linear", "cosine", "inverse-sqrt"]

DEFAULT_RATES: Mapping[OptimizerName, float] = MappingProxyType(
    {
        "adamw": 2e-4,
        "adamw-fused": 2e-4,
        "prodigy": 1.0,
        "prodigy-plus": 1.0,
        "adafactor": 1e-3,
    }
)
"""Learning rate when the recipe names none. Prodigy estimates its own and wants 1.0 (both
packages' README); Adafactor's is the value its Transformers page gives for a fixed rate."""

NEEDED_MODULES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "nf4": ("bitsandbytes", "bitsandbytes"),
        "prodigy": ("prodigyopt", "prodigyopt"),
        "prodigy-plus": ("prodigyplus", "prodigy-plus-schedule-free"),
    }
)
"""Setting value -> (module to import, distribution that brings it)."""


class Section(BaseModel):
    """A part of the recipe: closed (no unknown keys) and never changed after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Base(Section):
    """The frozen model under the adapter, from a directory or the hub."""

    model: str
    revision: str | None = None
    quantization: Literal["none", "nf4"] = "none"
    double_quant: bool = False
    compute_dtype: Precision = "fp32"

    @model_validator(mode="after")
    def _quantisation_fits(self) -> Base:
        if self.double_quant and self.quantization == "none":
            _refuse("double_quant needs quantization nf4")
        _require_module(self.quantization)
        return self


class Adapter(Section):
    """The trained weights. ``dtype`` is what they, and modules_to_save, really have."""

    method: Literal["lora", "dora"] = "lora"
    rank: int = Field(default=8, ge=1)
    alpha: int = Field(default=16, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    target_modules: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    modules_to_save: tuple[str, ...] = ()
    dtype: Precision = "fp32"


class Data(Section):
    """Training text.

    ``block_size`` is in tokens: the length of a block (causal-lm), or the longest text kept
    (sequence-classification).
    """

    files: tuple[str, ...] = Field(min_length=1)
    eval_files: tuple[str, ...] = ()
    format: Literal["text", "jsonl"] = "text"
    text_key: str = "text"
    label_key: str = "label"
    block_size: int = Field(default=512, ge=2)


class Optimizer(Section):
    """Which optimizer, and arguments handed to its constructor as they are."""

    name: OptimizerName = "adamw-fused"
    args: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _args_are_free(self) -> Optimizer:
        for key, instead in (("lr", "training.learning_rate"), ("fused", "the optimizer's name")):
            if key in self.args:
                _refuse(f"args.{key} is set by {instead}")
        for key, value in self.args.items():
            if isinstance(value, float) and not isfinite(value):
                _refuse(f"args.{key} is {value}, which a manifest can't hold: leave it out")
        _require_module(self.name)
        return self

    @property
    def estimates_rate(self) -> bool:
        """Tell whether Adafactor is asked to find its own learning rate."""
        return self.name == "adafactor" and bool(self.args.get("relative_step", False))


class Training(Section):
    """How long, how fast, and how often something is written."""

    steps: int = Field(ge=1)
    batch_size: int = Field(default=4, ge=1)
    gradient_accumulation: int = Field(default=1, ge=1)
    gradient_checkpointing: bool = False
    learning_rate: float | None = Field(default=None, gt=0)
    optimizer: Optimizer = Field(default_factory=Optimizer)
    scheduler: SchedulerName = "constant"
    warmup_steps: int = Field(default=0, ge=0)
    save_every: int = Field(default=100, ge=1)
    log_every: int = Field(default=10, ge=1)
    eval_every: int | None = Field(default=None, ge=1)
    max_grad_norm: float = Field(default=1.0, ge=0)
    seed: int = Field(default=0, ge=0)
    threads: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _schedule_fits(self) -> Training:
        if self.warmup_steps and self.scheduler == "constant":
            _refuse("warmup_steps has no effect on scheduler constant: use constant-with-warmup")
        if self.warmup_steps > self.steps:
            _refuse(f"warmup_steps {self.warmup_steps} is more than steps {self.steps}")
        if self.optimizer.estimates_rate and self.learning_rate is not None:
            _refuse("learning_rate has no effect on adafactor with relative_step: leave it out")
        if self.optimizer.estimates_rate and self.scheduler != "constant":
            _refuse("adafactor with relative_step is its own scheduler: use scheduler constant")
        return self

    @property
    def rate(self) -> float | None:
        """Return the learning rate in use, None when the optimizer finds its own."""
        if self.optimizer.estimates_rate:
            return None
        return self.learning_rate or DEFAULT_RATES[self.optimizer.name]


class Recipe(Section):
    """A whole training."""

    output_dir: str
    task: Literal["causal-lm", "sequence-classification"] = "causal-lm"
    num_labels: int | None = Field(default=None, ge=2)
    base: Base
    adapter: Adapter = Field(default_factory=Adapter)
    data: Data
    training: Training

    @model_validator(mode="after")
    def _parts_fit(self) -> Recipe:
        classifies = self.task == "sequence-classification"
        if classifies and self.num_labels is None:
            _refuse("task sequence-classification needs num_labels")
        if not classifies and self.num_labels is not None:
            _refuse("num_labels has no effect on task causal-lm: leave it out")
        if classifies and self.data.format == "text":
            _refuse("data.format text carries no labels: use jsonl with label_key")
        if self.training.eval_every and not self.data.eval_files:
            _refuse("training.eval_every needs data.eval_files")
        return self


def _refuse(sentence: str) -> None:
    """Say what is impossible; pydantic adds the place."""
    raise ValueError(sentence)


def _require_module(value: str) -> None:
    """Refuse a setting whose package is not installed."""
    module, distribution = NEEDED_MODULES.get(value, ("", ""))
    if module and find_spec(module) is None:
        _refuse(f"{value} needs the package {distribution}, which is not installed")
