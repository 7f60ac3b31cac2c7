"""What the machine's devices can compute in, told without importing a training library."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

AMPERE = 8.0
"""CUDA compute capability from which bf16 runs natively (CUDA C++ Programming Guide, table
"Feature Support per Compute Capability")."""

ADA = 8.9
"""CUDA compute capability from which fp8 runs natively (the same table)."""

_CPU_BF16 = ("avx512_bf16", "amx_bf16", "bf16")
_CPU_FLAGS = (
    *("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "avx512_vnni", "avx10"),
    *("amx_bf16", "amx_fp16", "amx_int8", "bf16", "fphp", "i8mm", "sve"),
)
_MEBIBYTE = 1024 * 1024
_FIELDS = "name,compute_cap,memory.total,memory.free,driver_version"


@dataclass(frozen=True, slots=True)
class Device:
    """A device's name and whether it computes in bf16 by itself, None when nothing tells."""

    name: str
    bf16: bool | None


@dataclass(frozen=True, slots=True)
class Gpu:
    """An NVIDIA GPU as its driver describes it; what the driver does not tell is None."""

    name: str
    capability: float | None
    memory_bytes: int | None
    free_bytes: int | None
    driver: str

    @property
    def bf16(self) -> bool | None:
        """Tell whether it computes in bf16 by itself."""
        return None if self.capability is None else self.capability >= AMPERE

    @property
    def fp8(self) -> bool | None:
        """Tell whether it computes in fp8 by itself."""
        return None if self.capability is None else self.capability >= ADA


@dataclass(frozen=True, slots=True)
class Processor:
    """The processor: how many threads may run here, and what of its instructions matters.

    ``bf16`` is None where the system does not tell instructions; so is ``memory_bytes``.
    """

    name: str
    threads: int
    flags: tuple[str, ...]
    bf16: bool | None
    memory_bytes: int | None


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
    first = next((gpu for gpu in gpus() if gpu.capability is not None), None)
    if first is not None:
        return Device(name=first.name, bf16=first.bf16)
    return Device(name="CPU", bf16=processor().bf16)


def device_settings() -> dict[str, str | bool]:
    """Return the device a training would take here, as settings `device.*`."""
    first = next(iter(gpus()), None)
    known: dict[str, str | bool | None]
    if first is not None:
        capability = None if first.capability is None else str(first.capability)
        known = {"type": "cuda", "name": first.name, "capability": capability}
        known |= {"bf16": first.bf16, "fp8": first.fp8}
    else:
        own = processor()
        known = {"type": "cpu", "name": own.name, "bf16": own.bf16}
    return {f"device.{name}": value for name, value in known.items() if value is not None}


def gpus() -> tuple[Gpu, ...]:
    """Return the NVIDIA GPUs in the driver's order, none where there is no driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    query = [program, f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(  # noqa: S603 - a fixed program and fixed arguments
            query, capture_output=True, text=True, timeout=20, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ()
    return tuple(filter(None, map(gpu_of_line, answer.splitlines())))


def gpu_of_line(line: str) -> Gpu | None:
    """Return the GPU in one line of nvidia-smi's CSV, None when it is no such line."""
    parts = [part.strip() for part in line.rsplit(",", _FIELDS.count(","))]
    if len(parts) != _FIELDS.count(",") + 1 or not parts[0]:
        return None
    total, free = (_number(part) for part in parts[2:4])
    return Gpu(
        name=parts[0],
        capability=_number(parts[1]),
        memory_bytes=None if total is None else int(total) * _MEBIBYTE,
        free_bytes=None if free is None else int(free) * _MEBIBYTE,
        driver=parts[4],
    )


def processor() -> Processor:
    """Return this machine's processor."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    return processor_of(text)


def processor_of(text: str) -> Processor:
    """Return the processor that the text of `/proc/cpuinfo` describes, "" for no such file."""
    lines = [line.partition(":") for line in text.splitlines()]
    words = {
        word
        for name, _colon, value in lines
        if name.strip() in {"flags", "Features"}
        for word in value.split()
    }
    named = [value.strip() for name, _colon, value in lines if name.strip() == "model name"]
    return Processor(
        name=named[0] if named else platform.processor() or platform.machine() or "CPU",
        threads=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else _threads(),
        flags=tuple(flag for flag in _CPU_FLAGS if flag in words),
        bf16=any(flag in words for flag in _CPU_BF16) if words else None,
        memory_bytes=_memory_bytes(),
    )


def _threads() -> int:
    return os.cpu_count() or 1


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
