"""SimpleTuner: its own trainer resumes from copies of its checkpoint by `sentinel repair`.

Needs and stand-ins are those of `simpletuner.py`.
"""

# ruff: noqa: PLC0415 - a trainer can be imported only once its checkout was entered

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import warnings
from pathlib import Path

from _repairing import repaired
from _simpletuner_home import enter

LATEST = {"resume_from_checkpoint": "latest", "optimizer": "torch-adamw"}
CASES: tuple[tuple[str, dict[str, object]], ...] = (
    ("--cast fp32", {**LATEST, "mixed_precision": "no"}),
    ("--cast fp32 --optimizer cast", {**LATEST, "mixed_precision": "no"}),
    ("--cast fp32 --optimizer drop", {"init_lora_step": 0, "mixed_precision": "no"}),
)
"""What is asked of the repair, and the settings of the resume or of the start with the weights."""


def main() -> None:
    """Print what resumes from copies take up, as one line of JSON."""
    # SimpleTuner colours whatever is printed: the answer goes past it, all else to the side.
    answer = os.dup(1)
    os.dup2(2, 1)
    scratch = enter(Path(sys.argv[1]))
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    facts = {"repository": "https://github.com/bghira/SimpleTuner", "resuming": _resumed(scratch)}
    os.write(answer, (json.dumps(facts) + "\n").encode())


def _resumed(scratch: Path) -> list[dict[str, object]]:
    import _simpletuner_runs as runs

    trainer = runs.trainer_of(scratch, "first", sampler=False, optimizer="torch-adamw")
    runs.step(trainer, 3)
    trainer.checkpoint_state_save(str(scratch / "first"))
    found = []
    for asked, given in CASES:
        copy = repaired(scratch / "first" / "checkpoint-3", *asked.split())
        settings = {**given, "output_dir": str(copy.parent)}
        if "drop" in asked:
            settings["init_lora"] = str(copy / "pytorch_lora_weights.safetensors")
            settings["output_dir"] = str(scratch / "empty")
        found.append({"asked": asked, "given": given, **runs.resumed(scratch, settings)})
        shutil.rmtree(copy.parent)
    return found


if __name__ == "__main__":
    main()
