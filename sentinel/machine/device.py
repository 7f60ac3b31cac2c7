"""What the machine's device can compute in, told without importing a training library."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

AMPERE = 8.0
"""CUDA compute capability from which bf16 runs natively (CUDA C++ Programming Guide, table
"Feature Support per Compute Capability")."""

_CPU_BF16 = ("avx512_bf16", "amx_bf16", "bf16")


@dataclass(frozen=True, slots=True)
class Device:
    """A device's name and whether it computes in bf16 by itself, None when nothing tells."""

    name: str
    bf16: bool | None


def device_from_settings(settings: Mapping[str, object]) -> Device | None:
    """Return the device the trainer says it ran on, None when the checkpoint does not tell."""
    kind = settings.get("device.type")
    if kind is None:
        return None
    native = settings.get("device.bf16")
    name = str(settings.get("device.name") or kind)
    return Device(name=name, bf16=native if isinstance(native, bool) else None)


def device_of_machine() -> Device:
    """Return this machine's first NVIDIA GPU, else its processor."""
    return _nvidia() or _processor()


def _nvidia() -> Device | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = [program, "--query-gpu=name,compute_cap", "--format=csv,noheader"]
    try:
        answer = subprocess.run(  # noqa: S603 - a fixed program and fixed arguments
            query, capture_output=True, text=True, timeout=20, check=True
        ).stdout
        name, capability = answer.splitlines()[0].rsplit(",", 1)
        return Device(name=name.strip(), bf16=float(capability) >= AMPERE)
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def _processor() -> Device:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return Device(name="CPU", bf16=None)
    words = {
        word
        for line in lines
        if line.startswith(("flags", "Features"))
        for word in line.split(":", 1)[1].split()
    }
    return Device(name="CPU", bf16=any(flag in words for flag in _CPU_BF16))
