"""axolotl: which checkpoint it begins from by itself, asked of its own function."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

from _extracted import extracted

CHECKOUT = Path(sys.argv[1])
CASES = (
    ["checkpoint-9", "checkpoint-10"],
    ["checkpoint-10", ".sentinel-quarantine"],
    ["checkpoint-10", "checkpoint-12-fixed"],
    ["checkpoint-10", "quarantine"],
    [".sentinel-quarantine"],
)


def main() -> None:
    """Print one JSON object."""
    quiet = SimpleNamespace(info=lambda *_: None)
    functions = extracted(
        CHECKOUT / "src" / "axolotl" / "utils" / "train.py",
        ("determine_last_checkpoint",),
        {"Path": Path, "LOG": quiet},
    )
    latest = []
    for number, names in enumerate(CASES):
        root = Path.cwd() / str(number)
        for name in names:
            (root / name).mkdir(parents=True)
        settings = SimpleNamespace(
            output_dir=str(root), resume_from_checkpoint=None, auto_resume_from_checkpoints=True
        )
        picked = functions["determine_last_checkpoint"](settings)
        latest.append({"directories": names, "picked": picked and Path(picked).name})
    repository = "https://github.com/axolotl-ai-cloud/axolotl"
    print(json.dumps({"repository": repository, "latest": latest}))


if __name__ == "__main__":
    main()
