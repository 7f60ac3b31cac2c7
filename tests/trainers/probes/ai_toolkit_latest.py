"""ai-toolkit: which save it begins from, and which it deletes, asked of its own two functions."""

from __future__ import annotations

import glob
import json
import os
import shutil
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from _extracted import extracted

CHECKOUT = Path(sys.argv[1])
CASES = (
    ["cat_000000100.safetensors", "cat_000000200.safetensors"],
    ["cat_000000100.safetensors", "cat_000000200.safetensors", "cat_000000300.safetensors"],
    ["cat_000000200.safetensors", "cat_000000100.safetensors"],
    ["cat_000000100.safetensors", "cat_000000200.safetensors", ".sentinel-quarantine"],
    ["cat_000000100.safetensors", "cat_000000200.safetensors", "cat-quarantine"],
    ["cat_000000100.safetensors", "optimizer.pt"],
)


def main() -> None:
    """Print one JSON object: each case in the order its entries were written."""
    functions = extracted(
        CHECKOUT / "jobs" / "process" / "BaseSDTrainProcess.py",
        ("get_latest_save_path", "clean_up_saves"),
        {"os": os, "glob": glob, "shutil": shutil, "print_acc": lambda *_: None},
    )
    latest = [_case(functions, number, names) for number, names in enumerate(CASES)]
    print(json.dumps({"repository": "https://github.com/ostris/ai-toolkit", "latest": latest}))


def _case(functions: dict[str, object], number: int, names: list[str]) -> dict[str, object]:
    root = Path.cwd() / str(number)
    root.mkdir()
    for name in names:
        if "." in name.removeprefix("."):
            (root / name).touch()
        else:
            (root / name).mkdir()
        time.sleep(0.02)  # the order of their ctimes is what is asked about
    trainer = SimpleNamespace(
        save_root=str(root),
        job=SimpleNamespace(name="cat"),
        network_config=None,
        embed_config=None,
        accelerator=SimpleNamespace(is_main_process=True),
        save_config=SimpleNamespace(max_step_saves_to_keep=1),
        sd=object(),
    )
    picked = functions["get_latest_save_path"](trainer)
    functions["clean_up_saves"](trainer)
    left = sorted(path.name for path in root.iterdir())
    return {"written": names, "picked": picked and Path(picked).name, "left_by_keeping_1": left}


if __name__ == "__main__":
    main()
