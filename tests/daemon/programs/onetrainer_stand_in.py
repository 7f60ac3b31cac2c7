"""What OneTrainer does with `--config-path`, without a model: its files, and how it resumes.

It takes the lexicographically last backup when told to continue, and where that holds an optimizer
state its settings win over the configuration's. In FLOAT_16 the adapter stays at zero (`zero`), or
is NaN from a step on (`nan`). What it reads beyond OneTrainer's own fields is in `stand_in`.
"""

from __future__ import annotations

import io
import json
import pickle
import shutil
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

DTYPES = {"FLOAT_16": np.float16, "FLOAT_32": np.float32, "BFLOAT_16": np.float32}
MODULES = ("unet.a.to_q", "unet.a.to_v")


def main() -> None:
    config = json.loads(Path(sys.argv[sys.argv.index("--config-path") + 1]).read_text())
    workspace = Path(config["workspace_dir"])
    first = 0
    backups = sorted((workspace / "backup").glob("*"))
    if config["continue_last_backup"] and backups:
        last = backups[-1]
        first = json.loads((last / "meta.json").read_text())["train_progress"]["global_step"]
        if (last / "optimizer" / "optimizer.pt").exists():
            before = json.loads((last / "onetrainer_config" / "args.json").read_text())
            config["optimizer"] = before["optimizer"]
    for step in range(first + 10, config["stand_in"]["steps"] + 1, 10):
        save(workspace, step, config)
        lingers = config["learning_rate"] == config["stand_in"].get("linger_at_rate")
        time.sleep(60 if lingers else config["stand_in"]["pace_s"])


def save(workspace: Path, step: int, config: dict[str, object]) -> None:
    place = workspace / "backup" / f"2026-01-02_03-04-{step:02}-backup-{step}-0-{step}"
    shutil.rmtree(place, ignore_errors=True)
    for part in ("lora", "optimizer", "onetrainer_config"):
        (place / part).mkdir(parents=True)
    save_file(tensors(step, config), place / "lora" / "lora.safetensors")
    (place / "optimizer" / "optimizer.pt").write_bytes(empty_state())
    progress = {"epoch": 0, "epoch_step": step, "epoch_sample": step, "global_step": step}
    (place / "meta.json").write_text(json.dumps({"train_progress": progress}))
    (place / "onetrainer_config" / "args.json").write_text(json.dumps(config))


def tensors(step: int, config: dict[str, object]) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(step)
    dtype = DTYPES[config["lora_weight_dtype"]]
    fault, begins = config["stand_in"]["fault"], config["stand_in"]["fault_from"]
    found = {}
    for module in MODULES:
        up = generator.standard_normal((16, 4)) * 0.01
        if dtype is np.float16 and step >= begins:
            up[:] = 0 if fault == "zero" else np.nan
        found[f"{module}.lora_up.weight"] = up.astype(dtype)
        found[f"{module}.lora_down.weight"] = generator.uniform(-0.2, 0.2, (4, 16)).astype(dtype)
        found[f"{module}.alpha"] = np.array(4, np.float32)
    return found


def empty_state() -> bytes:
    """What torch.save writes for an empty dictionary, without torch."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}, protocol=2))
        archive.writestr("archive/byteorder", "little")
    return file.getvalue()


if __name__ == "__main__":
    main()
