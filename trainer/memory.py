"""What to change when the memory of the device does not suffice, in numbers."""

from __future__ import annotations

import re

import psutil

from .disk import size_words
from .recipe import Recipe


class OutOfMemoryError(Exception):
    """The device's memory is full; the command ends with exit code 3."""


_CPU = re.compile(r"DefaultCPUAllocator|can't allocate memory|Cannot allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception says that an allocation failed, on a GPU or a CPU."""
    import torch  # noqa: PLC0415 - asked only after something failed

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and _CPU.search(str(error)) is not None


def advise(recipe: Recipe, step: int | None) -> str:
    """Return one sentence: when it happened, how much there is, and what makes it smaller.

    ``step`` is the last finished one, None while the model was loaded. What is told keeps the
    result where it can: half the batch with twice the accumulation is the same training.
    """
    when = "while the model was loaded" if step is None else f"after step {step}"
    return f"out of memory {when}: {_facts()}; {', or '.join(_changes(recipe, step))}"


def _facts() -> str:
    import torch  # noqa: PLC0415 - asked only after something failed

    if torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        peak = torch.cuda.max_memory_allocated()
        return f"{size_words(peak)} of the GPU's {size_words(total)} were in use at the most"
    total, used = psutil.virtual_memory().total, psutil.Process().memory_info().rss
    return f"this process holds {size_words(used)} of {size_words(total)}"


def _changes(recipe: Recipe, step: int | None) -> list[str]:
    training, base, data = recipe.training, recipe.base, recipe.data
    changes = []
    if step is not None and training.batch_size > 1:
        half = training.batch_size // 2
        more = training.gradient_accumulation * training.batch_size // half
        changes.append(
            f"set training.batch_size={half} and training.gradient_accumulation={more}, "
            "the same training in pieces"
        )
    if step is not None and not training.gradient_checkpointing:
        changes.append("set training.gradient_checkpointing=true")
    if step is not None:
        changes.append(f"set data.block_size={max(2, data.block_size // 2)}")
    if base.quantization in {"none", "int8"}:
        changes.append("set base.quantization=nf4")
    if base.compute_dtype == "fp32":
        changes.append("set base.compute_dtype=bf16")
    return changes or ["use a smaller base, or a device with more memory"]
