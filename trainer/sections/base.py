"""The frozen model under the adapter."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from .section import Precision, Section, refuse, require

Quantization = Literal["none", "int8", "nf4", "fp4"]
Attention = Literal["auto", "eager", "sdpa", "flash-attention-2"]


class Base(Section):
    """The frozen model under the adapter, from a directory or the hub."""

    model: str = Field(description="directory of the base model, or its name on the hub")
    revision: str | None = Field(None, description="revision on the hub")
    quantization: Quantization = Field(
        "none", description="how bitsandbytes packs the base's linear layers"
    )
    double_quant: bool = Field(
        default=False, description="pack the sizes of the 4-bit blocks as well (nf4, fp4)"
    )
    compute_dtype: Precision = Field(
        "fp32", description="precision the base is loaded in, and multiplied in when packed"
    )
    attention: Attention = Field(
        "auto", description="implementation of attention; auto leaves it to Transformers"
    )

    @property
    def four_bit(self) -> bool:
        """Tell whether a weight of the base is packed in four bits."""
        return self.quantization in {"nf4", "fp4"}

    @model_validator(mode="after")
    def _quantisation_fits(self) -> Base:
        if self.double_quant and not self.four_bit:
            refuse("double_quant needs quantization nf4 or fp4")
        if self.quantization != "none":
            require(self.quantization, "bitsandbytes", "bitsandbytes")
        if self.attention == "flash-attention-2":
            if self.compute_dtype == "fp32":
                refuse("attention flash-attention-2 needs compute_dtype bf16 or fp16")
            require(self.attention, "flash_attn", "flash-attn")
        return self
