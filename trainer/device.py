"""Which device this training runs on, and whether it computes in bf16 by itself."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .errors import RefusedError
from .recipe import Recipe

_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""CPU flags of bf16 matrix instructions in Linux' /proc/cpuinfo: x86 (two) and Arm."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device as the manifest names it; ``capability`` is CUDA's, "8.0" for example."""

    type: str
    name: str
    bf16: bool
    capability: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields for the manifest."""
        return asdict(self)


def current_device() -> Device:
    """Return the CUDA device when there is one, else the CPU."""
    import torch  # noqa: PLC0415 - slow, and only needed once the recipe was accepted

    if not torch.cuda.is_available():
        name, flags = _cpu_facts()
        return Device("cpu", name, bool(_BF16_FLAGS & flags), None)
    major, minor = torch.cuda.get_device_capability()
    # bf16 tensor cores came with compute capability 8.0 (NVIDIA's Ampere whitepaper).
    return Device("cuda", torch.cuda.get_device_name(), major >= 8, f"{major}.{minor}")  # noqa: PLR2004


def check_device(recipe: Recipe, device: Device) -> None:
    """Refuse what the device can't do: bf16 on a GPU that only emulates it, and on CPUs a little.

    CPUs compute in any precision. That bitsandbytes loses an int8 layer's scales when PEFT has
    read them for DoRA's norms was seen on CPUs with version 0.50.
    """
    if device.type == "cpu":
        _check_cpu(recipe)
    if device.type != "cuda" or device.bf16:
        return
    settings = {
        "base.compute_dtype": recipe.base.compute_dtype,
        "adapter.dtype": recipe.adapter.dtype,
        "training.mixed_precision": recipe.training.mixed_precision,
    }
    for key, value in settings.items():
        if value == "bf16":
            fact = f"{device.name} (compute capability {device.capability}) has no bf16"
            todo = "use base.compute_dtype fp16 with adapter.dtype fp32"
            raise RefusedError(f"{key} bf16", fact, todo)


def _check_cpu(recipe: Recipe) -> None:
    if (recipe.adapter.method, recipe.base.quantization) == ("dora", "int8"):
        fact = "bitsandbytes' int8 layers don't carry it on a CPU"
        raise RefusedError("adapter.method dora", fact, "use base.quantization nf4 or none")
    if recipe.adapter.init == "loftq":
        raise RefusedError("adapter.init loftq", "PEFT computes it on a GPU only")


def _cpu_facts() -> tuple[str, frozenset[str]]:
    """Return the processor's name and feature flags, as far as the system tells."""
    name = platform.processor() or platform.machine()
    if platform.system() == "Darwin":
        return name, frozenset({"bf16"} if _darwin_has_bf16() else ())
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return name, frozenset()
    facts: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        facts.setdefault(key.strip().lower(), value.strip())
    flags = facts.get("flags") or facts.get("features") or ""
    return facts.get("model name", name), frozenset(flags.split())


def _darwin_has_bf16() -> bool:
    command = ["/usr/sbin/sysctl", "-n", "hw.optional.arm.FEAT_BF16"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError:
        return False
    return answer.stdout.strip() == "1"
