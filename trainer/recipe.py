"""What a training can be told: the recipe's sections, their defaults, what excludes what.

Field names are the keys of the YAML file. A combination that could not work, or that would
silently ignore something the user wrote, is refused here, before any model is loaded.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from .sections.adapter import Adapter
from .sections.base import Base
from .sections.data import Data
from .sections.parallel import Parallel
from .sections.section import Section, refuse
from .sections.training import Training


class Recipe(Section):
    """A whole training."""

    output_dir: str = Field(description="directory of the checkpoints, from the current one")
    task: Literal["causal-lm", "sequence-classification"] = Field(
        "causal-lm", description="what is learnt"
    )
    num_labels: int | None = Field(default=None, ge=2, description="classes of a classification")
    base: Base
    adapter: Adapter = Field(default_factory=Adapter)
    data: Data
    training: Training
    parallel: Parallel = Field(default_factory=Parallel)

    @model_validator(mode="after")
    def _task_fits(self) -> Recipe:
        classifies = self.task == "sequence-classification"
        if classifies and self.num_labels is None:
            refuse("task sequence-classification needs num_labels")
        if not classifies and self.num_labels is not None:
            refuse("num_labels has no effect on task causal-lm: leave it out")
        if classifies and self.data.format == "text":
            refuse("data.format text carries no labels: use jsonl with label_key")
        if classifies and (self.data.style != "text" or self.data.packing):
            refuse("data.style and data.packing are for task causal-lm: leave them out")
        if self.training.eval_every and not self.data.eval_files:
            refuse("training.eval_every needs data.eval_files")
        return self

    @model_validator(mode="after")
    def _precisions_fit(self) -> Recipe:
        adapter, training = self.adapter, self.training
        if training.mixed_precision == "fp16" and training.grad_scaler and self.trains_fp16:
            refuse(
                "a gradient scaler cannot unscale the gradients of fp16 weights: "
                "use adapter.dtype fp32, or training.grad_scaler false"
            )
        if adapter.reads_base and self.base.quantization != "none":
            refuse(
                f"adapter.init {adapter.init} needs the base's own weights, which "
                f"{self.base.quantization} has packed: use base.quantization none, or another init"
            )
        return self

    @model_validator(mode="after")
    def _base_fits(self) -> Recipe:
        method = self.adapter.method
        if self.base.four_bit and method in {"loha", "lokr"}:
            refuse(
                f"adapter.method {method} needs the shape of the base's weights, which "
                f"{self.base.quantization} has packed: use base.quantization int8 or none"
            )
        return self

    @property
    def trains_fp16(self) -> bool:
        """Tell whether any trained weight is in fp16."""
        adapter = self.adapter
        heads = bool(adapter.modules_to_save) or self.task == "sequence-classification"
        return adapter.dtype == "fp16" and (heads or not adapter.autocast_adapter_dtype)
