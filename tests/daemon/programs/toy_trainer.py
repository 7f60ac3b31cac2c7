"""A trainer as small as one can be: real processes, real files, no model.

It writes checkpoints in the bundled trainer's layout: an adapter whose lora_up stays zero or
turns NaN when it trains in fp16, and is healthy in fp32. It refuses to run twice at once in one
directory, and says so in a file that the tests look at.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

MODULES = ("q_proj", "v_proj")


def main() -> int:
    options = _options()
    out = options.out
    out.mkdir(parents=True, exist_ok=True)
    (out.parent / "pids").open("a").write(f"{os.getpid()}\n")
    lock = (out.parent / "trainer.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        (out.parent / "two-trainers-at-once").touch()
        return 9
    _heed_sigterm(out, options)
    first = 0
    if options.resume is not None:
        if options.die_on_resume:
            return 9
        first = json.loads((options.resume / "sentinel_manifest.json").read_text())["step"]
    for old in out.glob("checkpoint-*"):
        if int(old.name.split("-")[1]) > first:
            aside = out / f"superseded-{time.time_ns()}"
            aside.mkdir()
            old.rename(aside / old.name)
    for step in range(first + options.every, options.steps + 1, options.every):
        if options.hang_at == step:
            _hang(options)
        faulty = _saved_and_rotated(out, step, options)
        deadline = time.monotonic() + _pause_s(options, faulty=faulty)
        while time.monotonic() < deadline:
            if options.log:
                (out / "trainer_log.jsonl").open("a").write(json.dumps({"step": step}) + "\n")
            signal.sigtimedwait([], max(0.0, min(0.2, deadline - time.monotonic())))
    return options.exit_code


def _heed_sigterm(out: Path, options: argparse.Namespace) -> None:
    if options.stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if options.save_on_term:
        signal.signal(signal.SIGTERM, lambda *_: _last_words(out, options))


def _hang(options: argparse.Namespace) -> None:
    """Live and do nothing on a fresh start, until a file is there that was named for it."""
    if options.resume is not None and not options.always:
        return
    while options.hang_until is None or not options.hang_until.exists():
        signal.sigtimedwait([], 0.05)


def _last_words(out: Path, options: argparse.Namespace) -> None:
    """Save once more at SIGTERM, as trainers do, and be cut off in a further save."""
    _save(out, 900, options)
    half = out / "checkpoint-910"
    shutil.copytree(out / "checkpoint-900", half)
    weights = half / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-64])
    os._exit(0)


def _pause_s(options: argparse.Namespace, *, faulty: bool) -> float:
    lingers = faulty and options.linger_s is not None
    return options.linger_s if lingers else options.pace_s


def _saved_and_rotated(out: Path, step: int, options: argparse.Namespace) -> bool:
    """Delete what is too much after the save, or before it where there is something to wait for."""
    if options.delete_after:
        _rotate(out, options, keep=options.keep - 1)
    faulty = _save(out, step, options)
    if options.keep and not options.delete_after:
        _rotate(out, options, keep=options.keep)
    return faulty


def _rotate(out: Path, options: argparse.Namespace, *, keep: int) -> None:
    """Delete all but the newest checkpoints, each once the path that was named for it is there."""
    by_step = sorted(out.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for old in by_step[: len(by_step) - keep]:
        wanted = (options.delete_after or f"{out.name}/NAME").replace("NAME", old.name)
        while not list(out.parent.glob(wanted)):
            signal.sigtimedwait([], 0.05)
        shutil.rmtree(old)


def _save(out: Path, step: int, options: argparse.Namespace) -> bool:
    generator = np.random.default_rng(step)
    half = options.precision == "fp16"
    faulty = False
    dtype = np.float16 if half else np.float32
    tensors = {}
    for module in MODULES:
        up = generator.standard_normal((16, 4)) * 0.01
        if half and options.fault == "zero":
            up[:] = 0
            faulty = True
        begun_at = options.resume.name if options.resume else ""
        poisoned = options.poisoned is not None and begun_at == f"checkpoint-{options.poisoned}"
        nan = (half or options.always) and options.fault == "nan" and step >= options.fault_from
        if nan or poisoned:
            up[0, 0] = np.nan
            faulty = True
        prefix = f"base_model.model.layers.0.{module}"
        tensors[f"{prefix}.lora_A.weight"] = generator.uniform(-0.2, 0.2, (4, 16)).astype(dtype)
        tensors[f"{prefix}.lora_B.weight"] = up.astype(dtype)
    if options.pad_mb:
        tensors["base_model.model.lm_head.weight"] = np.zeros((options.pad_mb << 18,), np.float32)
        tensors["base_model.model.lm_head.weight"][:] = 0.5
    place = out / f".tmp-checkpoint-{step}-{os.getpid()}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    save_file(tensors, place / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": list(MODULES)}
    (place / "adapter_config.json").write_text(json.dumps(config))
    size = (place / "adapter_model.safetensors").stat().st_size
    manifest = {
        "schema": 1,
        "trainer": "sentinel-train",
        "step": step,
        "updates_done": step,
        "adapter": {"method": "lora", "dtype": options.precision, "rank": 4, "alpha": 8},
        "device": {"type": "cpu", "name": "cpu", "bf16": False},
        "resumed_from": None if options.resume is None else {"path": str(options.resume)},
        "files": {"adapter_model.safetensors": {"size_bytes": size}},
    }
    (place / "sentinel_manifest.json").write_text(json.dumps(manifest))
    place.rename(out / f"checkpoint-{step}")
    return faulty


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--pace-s", type=float, default=0.05)
    parser.add_argument("--linger-s", type=float, help="how long to wait after a faulty checkpoint")
    parser.add_argument("--precision", default="fp16")
    parser.add_argument("--fault", choices=["none", "zero", "nan"], default="none")
    parser.add_argument("--fault-from", type=int, default=0)
    parser.add_argument("--always", action="store_true", help="the fault does not mind precision")
    parser.add_argument("--stubborn", action="store_true", help="ignore SIGTERM")
    parser.add_argument("--poisoned", type=int, help="what begins at this step turns NaN at once")
    parser.add_argument("--die-on-resume", action="store_true")
    parser.add_argument("--save-on-term", action="store_true")
    parser.add_argument("--hang-at", type=int, help="the step before which a fresh start hangs")
    parser.add_argument("--hang-until", type=Path)
    parser.add_argument("--log", action="store_true", help="write a log beside the checkpoints")
    parser.add_argument("--pad-mb", type=int, default=0, help="how much larger a checkpoint is")
    parser.add_argument("--keep", type=int, help="how many checkpoints are kept")
    parser.add_argument("--delete-after", help="deletes before it saves, NAME once this is there")
    parser.add_argument("--resume", type=Path)
    parser.add_argument("--exit-code", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
