"""SimpleTuner: its own trainer at toy size makes adapters, saves, resumes and reads settings.

Needs, beside the libraries of this project, fastapi, sse-starlette, python-multipart, toml, pyjwt,
websockets, aiofiles, requests, torch-optimi and peft-singlora. Stand-ins and what is replaced:
`_simpletuner_home.py`, `_simpletuner_runs.py`.
"""

# ruff: noqa: PLC0415 - a trainer can be imported only once its checkout was entered

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

from _simpletuner_home import enter

LIBRARIES = ("torch", "diffusers", "transformers", "peft", "lycoris-lora", "accelerate")


def main() -> None:
    """Print what SimpleTuner writes and accepts, as one line of JSON."""
    # SimpleTuner colours whatever is printed: the answer goes past it, all else to the side.
    answer = os.dup(1)
    os.dup2(2, 1)
    scratch = enter(Path(sys.argv[1]))
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    import _simpletuner_runs as runs
    import _simpletuner_settings as settings

    run = runs.whole_run(scratch)
    facts = {
        "repository": "https://github.com/bghira/SimpleTuner",
        "libraries": {name: version(name) for name in LIBRARIES},
        "accepts": settings.accepted(),
        "overriding": settings.overriding(scratch),
        "latest": settings.latest(scratch),
        "validity": settings.validity(_names(run), scratch),
        "run": run,
        "standard": runs.standard(scratch),
        "lycoris": runs.lycoris(scratch),
        "resuming": runs.resuming(scratch),
    }
    # Where the scratch directory lies is nobody's business.
    text = json.dumps(facts, default=str).replace(f"{scratch}/", "").replace(str(scratch), ".")
    os.write(answer, (text + "\n").encode())


def _names(run: dict[str, object]) -> dict[str, object]:
    files = run["files"]
    assert isinstance(files, dict)
    prefix = "checkpoint-3/"
    return {name.removeprefix(prefix): one for name, one in files.items() if prefix in name}


if __name__ == "__main__":
    main()
