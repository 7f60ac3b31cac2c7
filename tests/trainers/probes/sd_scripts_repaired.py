"""sd-scripts: its own trainer goes on from copies of its states and saves by `sentinel repair`.

What is stood in for is said in `sd_scripts.py`.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import sd_scripts
from _repairing import repaired

Images = sd_scripts.Images
"""Named as a class of the main module in `--dataset_class`."""

STATE = "lora/cat-step00000003-state"
SAVE = "lora/cat.safetensors"
CASES: tuple[tuple[str, str, str, str], ...] = (
    (STATE, "--cast bf16 --allow-loss", "resumed", STATE),
    (STATE, "--cast bf16 --optimizer cast --allow-loss", "resumed", STATE),
    (STATE, "--cast bf16 --optimizer drop --allow-loss", "weights only", SAVE),
    (SAVE, "--cast bf16 --allow-loss", "weights only", SAVE),
)
"""What is repaired and how, the run that goes on from it, and what that run names instead."""


def main() -> None:
    """Print how each run ended, as one line of JSON."""
    with contextlib.redirect_stdout(sys.stderr):
        sd_scripts.enter()
        first = sd_scripts.run("lora", *sd_scripts.RUNS["lora"])
        if "error" in first:
            raise RuntimeError(first["error"])
        facts = [_gone_on(at, *case) for at, case in enumerate(CASES)]
    print(json.dumps({"repository": "https://github.com/kohya-ss/sd-scripts", "runs": facts}))


def _gone_on(at: int, source: str, asked: str, name: str, named: str) -> dict[str, object]:
    copy = repaired(Path(source), *asked.split(), "--to", f"{at}/{Path(source).name}")
    given = copy / "model.safetensors" if "drop" in asked else copy
    family, options = sd_scripts.RUNS[name]
    words = options.replace(named, str(given.relative_to(Path.cwd())))
    ended = sd_scripts.run(f"again {at}", family, words)
    files = ended.get("files", {})
    return {
        "of": source,
        "asked": asked,
        "run": name,
        "error": ended.get("error", ""),
        "zero_at_start": ended.get("zero_at_start"),
        "files": sorted(files) if isinstance(files, dict) else [],
    }


if __name__ == "__main__":
    main()
