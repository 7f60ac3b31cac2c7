"""How long, how fast, in which precision, and how often something is written."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from .optimizer import OPTIMIZERS, Optimizer
from .section import Section, refuse, require

SchedulerName = Literal[
    "constant",
    "constant-with-warmup",
    "linear",
    "cosine",
    "cosine-with-restarts",
    "cosine-with-min-lr",
    "polynomial",
    "inverse-sqrt",
    "warmup-stable-decay",
]
MixedPrecision = Literal["auto", "none", "bf16", "fp16"]


class Training(Section):
    """How long, how fast, and how often something is written."""

    steps: int | None = Field(default=None, ge=1, description="optimizer steps; this or epochs")
    epochs: float | None = Field(
        default=None,
        gt=0,
        description="passes over the data, also parts of one; this or steps",
    )
    batch_size: int = Field(4, ge=1, description="samples a device and forward pass")
    gradient_accumulation: int = Field(1, ge=1, description="forward passes an optimizer step")
    gradient_checkpointing: bool = Field(
        default=False, description="compute activations again in the backward pass"
    )
    gradient_checkpointing_reentrant: bool = Field(
        default=False, description="torch's older way of doing so"
    )
    mixed_precision: MixedPrecision = Field(
        "auto",
        description="autocast of the forward pass; auto: base.compute_dtype when an fp32 adapter "
        "trains on a GPU, else none",
    )
    grad_scaler: bool = Field(
        default=True, description="scale the loss when the forward pass is autocast to fp16"
    )
    compile: bool = Field(default=False, description="torch.compile")
    learning_rate: float | None = Field(
        default=None, gt=0, description="learning rate; left out, the optimizer's usual one"
    )
    optimizer: Optimizer = Field(default_factory=Optimizer)
    scheduler: SchedulerName = Field("constant", description="learning rate over the steps")
    scheduler_args: dict[str, Any] = Field(
        default_factory=dict,
        description="its further arguments (`num_cycles`, `power`, `min_lr`, `num_decay_steps`)",
    )
    warmup_steps: int = Field(0, ge=0, description="steps the rate takes to its full height")
    save_every: int = Field(100, ge=1, description="steps between checkpoints; the last step too")
    keep: int | None = Field(
        default=None,
        ge=1,
        description="newest checkpoints that are kept; left out, all. The last one that "
        "`sentinel scan` finds usable is kept beyond that",
    )
    log_every: int = Field(10, ge=1, description="steps between lines of the log")
    eval_every: int | None = Field(
        default=None, ge=1, description="steps between evaluations on data.eval_files"
    )
    max_grad_norm: float = Field(
        1.0, ge=0, description="norm that gradients are clipped to; 0 clips nothing"
    )
    seed: int = Field(0, ge=0, description="seed of weights, order of samples and dropout")
    threads: int | None = Field(
        default=None, ge=1, description="processor threads torch may use; left out, its choice"
    )
    tensorboard: bool | None = Field(
        default=None, description="write event files; left out, when tensorboard is installed"
    )

    @model_validator(mode="after")
    def _ends_somewhere(self) -> Training:
        if self.steps is None and self.epochs is None:
            refuse("says neither steps nor epochs: give one of them")
        if self.steps is not None and self.epochs is not None:
            refuse("says both steps and epochs: leave one of them out")
        return self

    @model_validator(mode="after")
    def _schedule_fits(self) -> Training:
        if self.warmup_steps and self.scheduler == "constant":
            refuse("warmup_steps has no effect on scheduler constant: use constant-with-warmup")
        if self.steps is not None and self.warmup_steps > self.steps:
            refuse(f"warmup_steps {self.warmup_steps} is more than steps {self.steps}")
        if self.optimizer.estimates_rate and self.learning_rate is not None:
            refuse("learning_rate has no effect on adafactor with relative_step: leave it out")
        if self.optimizer.estimates_rate and self.scheduler != "constant":
            refuse("adafactor with relative_step is its own scheduler: use scheduler constant")
        if self.scheduler == "warmup-stable-decay" and "num_decay_steps" not in self.scheduler_args:
            refuse("scheduler warmup-stable-decay needs scheduler_args {num_decay_steps: N}")
        return self

    @model_validator(mode="after")
    def _switches_fit(self) -> Training:
        if self.gradient_checkpointing_reentrant and not self.gradient_checkpointing:
            refuse("gradient_checkpointing_reentrant has no effect without gradient_checkpointing")
        if self.tensorboard:
            require("tensorboard", "tensorboard", "tensorboard")
        return self

    @property
    def last_step(self) -> int:
        """Return the step the training ends at, which `length.py` makes of epochs beforehand."""
        if self.steps is None:
            raise ValueError("the data's size is not known yet")
        return self.steps

    @property
    def rate(self) -> float | None:
        """Return the learning rate in use, None when the optimizer finds its own."""
        if self.optimizer.estimates_rate:
            return None
        return self.learning_rate or OPTIMIZERS[self.optimizer.name].rate
