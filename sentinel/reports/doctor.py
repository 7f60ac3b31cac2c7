"""What a machine can do, and which versions are known for a fault, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from sentinel.checkpoint import path_text
from sentinel.health.plain import plain
from sentinel.machine.doctor import Machine
from sentinel.machine.packages import LIBRARIES
from sentinel.reports.findings import finding_block
from sentinel.reports.json_report import SCHEMA, finding_object
from sentinel.reports.lines import Safe, finding_line
from sentinel.reports.sections import Facts, Section, render_sections
from sentinel.verdict import Finding, Verdict

if TYPE_CHECKING:
    from rich.console import Console

    from sentinel.machine.device import Gpu

_GIBIBYTE = 1024**3
_FEW_WATCHES = 65_536
"""Below this a directory tree of some size, or two other programs that watch, use them up."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A machine, what the rules say of it, and what they would say of some trainings on it."""

    machine: Machine
    verdict: Verdict
    possible: tuple[Finding, ...] = ()


def render_doctor(diagnosis: Diagnosis, console: Console) -> None:
    """Print the machine in sections, and below them what is known to go wrong."""
    render_sections(tuple(_sections(diagnosis.machine)), console)
    console.print()
    safe = Safe(console.encoding)
    groups: Sequence[tuple[str, Sequence[Finding]]] = (
        ("problems", diagnosis.verdict.findings),
        ("problems of some trainings", diagnosis.possible),
    )
    for title, findings in groups:
        if findings:
            console.print(title, style="bold")
        for finding in findings:
            if console.is_terminal:
                console.print(finding_block(finding, safe, verbose=False))
            else:
                line = f"{finding.severity}  {finding_line(finding)}"
                console.print(safe(line), soft_wrap=True, markup=False)
    if not diagnosis.verdict.findings and not diagnosis.possible:
        console.print("no known problem", style="green")


def doctor_to_json(diagnosis: Diagnosis) -> str:
    """Return the same as one JSON object; keys are only added within its schema."""
    machine = diagnosis.machine
    found = {
        "schema": SCHEMA,
        "gpus": [{**asdict(gpu), "bf16": gpu.bf16, "fp8": gpu.fp8} for gpu in machine.gpus],
        "processor": asdict(machine.processor),
        "python": {
            "path": path_text(machine.python) if machine.python else None,
            "version": machine.python_version,
        },
        "versions": {name: machine.versions.get(name) for name in LIBRARIES},
        "places": {
            name: {
                "path": path_text(path),
                "free_bytes": disk.free_bytes if (disk := machine.disks[name]) else None,
            }
            for name, path in machine.places.items()
        },
        "watch_limits": asdict(machine.watches),
        "findings": [finding_object(finding) for finding in diagnosis.verdict.findings],
        "possible": [finding_object(finding) for finding in diagnosis.possible],
    }
    return json.dumps(plain(found), indent=2, allow_nan=False)


def _sections(machine: Machine) -> Iterator[Section]:
    yield Facts(tuple(_device_facts(machine)), "device")
    where = f" of {machine.python}" if machine.python else ""
    yield Facts((("python", machine.python_version), *_version_facts(machine)), f"versions{where}")
    yield Facts(tuple(_place_facts(machine)), "room")


def _device_facts(machine: Machine) -> Iterator[tuple[str, str]]:
    for number, gpu in enumerate(machine.gpus):
        yield f"GPU {number}", _gpu_words(gpu)
    if not machine.gpus:
        yield "GPU", "no NVIDIA driver answers"
    own = machine.processor
    memory = f", {_gibibytes(own.memory_bytes)}" if own.memory_bytes else ""
    yield "processor", f"{own.name}, {own.threads} threads{memory}"
    yield "instructions", " ".join(own.flags) or "not known"
    yield "bf16 on it", {True: "native", False: "emulated", None: "not known"}[own.bf16]


def _gpu_words(gpu: Gpu) -> str:
    parts = [gpu.name]
    if gpu.capability is not None:
        parts.append(f"compute capability {gpu.capability}")
    if gpu.memory_bytes is not None:
        free = f", {_gibibytes(gpu.free_bytes)} free" if gpu.free_bytes is not None else ""
        parts.append(_gibibytes(gpu.memory_bytes) + free)
    for kind, has in (("bf16", gpu.bf16), ("fp8", gpu.fp8)):
        parts.append(kind if has else f"no {kind}" if has is False else f"{kind} not known")
    return ", ".join((*parts, f"driver {gpu.driver}"))


def _version_facts(machine: Machine) -> Iterator[tuple[str, str]]:
    for name in LIBRARIES:
        if name in machine.versions:
            yield name, machine.versions[name]
    missing = [name for name in LIBRARIES if name not in machine.versions]
    if missing:
        yield "not installed", ", ".join(missing)


def _place_facts(machine: Machine) -> Iterator[tuple[str, str]]:
    for name, path in machine.places.items():
        disk = machine.disks[name]
        free = f"{_gibibytes(disk.free_bytes)} free" if disk else "room not known"
        yield name, f"{path_text(path)} ({free})"
    watches = machine.watches
    if watches.watches is None:
        yield "watches", "no inotify here; directories are looked through every two minutes"
        return
    few = ", few: what cannot be watched is polled" if watches.watches < _FEW_WATCHES else ""
    yield "watches", f"{watches.watches} directories, {watches.instances} instances{few}"


def _gibibytes(size_bytes: int | None) -> str:
    return "?" if size_bytes is None else f"{size_bytes / _GIBIBYTE:.1f} GiB"
