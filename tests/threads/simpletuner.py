"""A checkpoint of SimpleTuner, laid out from what a whole training of its own wrote."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from laying import as_it_was, facts_of, lay

NAME = "checkpoint-3"
FACTS: Mapping[str, Any] = facts_of("simpletuner")
WEIGHTS = f"{NAME}/pytorch_lora_weights.safetensors"

_FILES: Mapping[str, Any] = FACTS["run"]["files"]
_HPARAMS = "logs/simpletuner/1767323045.5/hparams.yml"
_GUARD = f"{NAME}/.guard"


def checkpoint(root: Path) -> Path:
    """Lay it out with values at random, its configuration written before it."""
    files = {**_FILES, _GUARD: {"text": "complete\n"}}
    lay({_HPARAMS: files.pop(_HPARAMS)}, root)
    os.utime(root / _HPARAMS, ns=(0, 1_000_000_000))
    lay(files, root, as_it_was(_FILES[WEIGHTS], seed=7))
    return root / NAME


def written_after(name: str) -> set[str]:
    """The files that SimpleTuner writes into the checkpoint once it has written this one."""
    prefix = f"{NAME}/"
    order = [
        line.split(" ")[-1] for line in FACTS["run"]["order"] if line.split(" ")[0] != "remove"
    ]
    own = [file.removeprefix(prefix) for file in order if file.startswith(prefix)]
    return set(own[own.index(name) + 1 :]) - set(own[: own.index(name) + 1])
