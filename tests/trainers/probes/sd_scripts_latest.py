"""sd-scripts: which files its rotation deletes, asked of its own functions."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

from _extracted import extracted

CHECKOUT = Path(sys.argv[1])
CASES = (
    ([10, 20, 30], 40),
    ([10, 30], 40),
    ([10, 20], 40),
    ([20, 30], 40),
)


def main() -> None:
    """Print one JSON object: with three saves kept, what goes when another step is saved."""
    naming = extracted(
        CHECKOUT / "library" / "train_util.py",
        (
            *("get_remove_step_no", "get_step_ckpt_name", "default_if_none"),
            *("DEFAULT_STEP_NAME", "STEP_FILE_NAME"),
        ),
        {},
    )
    latest = []
    for number, (steps, saved) in enumerate(CASES):
        root = Path.cwd() / str(number)
        root.mkdir()
        args = SimpleNamespace(
            save_every_n_steps=10, save_last_n_steps=20, output_name="cat", output_dir=str(root)
        )
        name_of = naming["get_step_ckpt_name"]
        for step in (*steps, saved):
            (root / name_of(args, ".safetensors", step)).touch()
        before = sorted(path.name for path in root.iterdir())
        removing = extracted(
            CHECKOUT / "train_network.py",
            ("remove_model",),
            {"os": os, "args": args, "accelerator": SimpleNamespace(print=lambda *_: None)},
        )
        gone = naming["get_remove_step_no"](args, saved)
        removing["remove_model"](name_of(args, ".safetensors", gone))
        left = sorted(path.name for path in root.iterdir())
        latest.append({"files": before, "left": left})
    print(json.dumps({"repository": "https://github.com/kohya-ss/sd-scripts", "latest": latest}))


if __name__ == "__main__":
    main()
