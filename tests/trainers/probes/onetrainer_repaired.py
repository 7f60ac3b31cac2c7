"""OneTrainer: its own `scripts/train.py` resumes from copies of its backup by `sentinel repair`.

Needs and stand-ins are those of `onetrainer.py`.
"""

# ruff: noqa: PLC0415 - a trainer can be imported only once its checkout was entered

from __future__ import annotations

import json
import logging
import shutil
import sys
import warnings
from contextlib import redirect_stdout
from pathlib import Path

from _onetrainer_home import enter, feeding, set_clock, set_dates, train
from _repairing import repaired

CASES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("--cast", "bf16"), ("lora_weight_dtype=BFLOAT_16",)),
    (("--cast", "bf16", "--optimizer", "cast"), ("lora_weight_dtype=BFLOAT_16",)),
    (("--cast", "bf16", "--optimizer", "cast"), ()),
    (("--optimizer", "drop"), ("optimizer.eps=1e-4",)),
)
"""What is asked of the repair, and the settings of the resume."""


def main() -> None:
    """Print what resumes from copies take up, as one line of JSON."""
    scratch = enter(Path(sys.argv[1]))
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    with redirect_stdout(sys.stderr):
        set_dates()
        facts = _resumed(scratch)
    print(json.dumps({"repository": "https://github.com/Nerogar/OneTrainer", "resuming": facts}))


def _resumed(scratch: Path) -> list[dict[str, object]]:
    import _onetrainer_runs as runs
    from _onetrainer_tiny import Batches, fill_stable_diffusion

    set_clock()
    first = runs.configuration(scratch, "first")
    with feeding(Batches(4), fill_stable_diffusion, scratch):
        train("--config-path", str(first))
    [backup] = (scratch / "first" / "backup").iterdir()
    found = []
    for asked, values in CASES:
        workspace = repaired(backup, *asked).parents[1]
        again = runs.configuration(scratch, "again", workspace_dir=str(workspace))
        told = {"asked": " ".join(asked), "given": list(values)}
        found.append({**told, **runs.resumed(scratch, again, values)})
        shutil.rmtree(workspace)
    return found


if __name__ == "__main__":
    main()
