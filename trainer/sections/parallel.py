"""How several processes share the work; with one there is nothing to share."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from .section import Section, refuse, require

Engine = Literal["ddp", "fsdp2", "deepspeed"]


class Parallel(Section):
    """The engine under the processes that `torchrun` or `accelerate launch` starts."""

    engine: Engine = Field(
        "ddp",
        description="ddp: the whole model in each process; fsdp2: torch's fully_shard; "
        "deepspeed: ZeRO. A configuration of accelerate launch goes over it",
    )
    zero_stage: Literal[1, 2, 3] | None = Field(
        default=None, description="what ZeRO shards; left out, 2"
    )
    cpu_offload: bool = Field(
        default=False, description="keep what is sharded in the machine's memory"
    )
    args: dict[str, Any] = Field(
        default_factory=dict,
        description="further keys of Transformers' `fsdp_config`, or of DeepSpeed's configuration",
    )

    @model_validator(mode="after")
    def _engine_fits(self) -> Parallel:
        if self.engine == "ddp" and (self.cpu_offload or self.args):
            refuse("cpu_offload and args are for engine fsdp2 or deepspeed: leave them out")
        if self.zero_stage is not None and self.engine != "deepspeed":
            refuse("zero_stage is for engine deepspeed: leave it out")
        if self.engine == "deepspeed":
            require("engine deepspeed", "deepspeed", "deepspeed")
        return self
