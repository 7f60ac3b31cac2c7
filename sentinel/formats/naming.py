"""What the names of checkpoints tell: the step, the run they belong to, and what is no checkpoint.

Sources of the patterns: Transformers' `PREFIX_CHECKPOINT_DIR`, sd-scripts' `STEP_FILE_NAME` and
`EPOCH_FILE_NAME`, SimpleTuner's `checkpoint-N-rolling`, Transformers' and llama.cpp's sharded file
names, `backup` and `save` of OneTrainer's modules/trainer/GenericTrainer.py, and Lightning's
`ModelCheckpoint`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

_STEP = re.compile(
    r"(?P<stem>.*?)[-_.]?(?:global_?step|checkpoint|step)s?[-_=]?(?P<step>\d{1,15})"
    r"(?:-rolling)?"
)
_NUMBERED = re.compile(r"(?P<stem>.+?)[-_](?P<step>\d{6,15})")
_ONETRAINER = re.compile(
    r"(?P<prefix>.*?)\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-(?P<kind>backup|save)"
    r"-(?P<step>\d{1,15})-\d{1,9}-\d{1,15}"
)
_LIGHTNING = re.compile(r"(?:(?:.*[-_])?(?:epoch|step)=\d+.*|last(?:-v\d+)?)\.ckpt")
_SHARD = re.compile(
    r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.safetensors|\.gguf)"
)
_SUFFIXES = (".safetensors", ".gguf")
STATE = "-state"
"""What sd-scripts adds to a save's name for the directory of its training state."""
COMPANIONS = "_embeddings"
"""What OneTrainer adds to a save's name for the directory of its text embeddings."""

_TEMPORARY = (".*", "tmp-checkpoint-*", "*-tmp", "*.tmp", "superseded-*")
_LONGEST_NAME = 255


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of a set that together holds a model's tensors; ``number`` begins at 1."""

    stem: str
    number: int
    count: int
    suffix: str = ".safetensors"

    def sibling(self, number: int) -> str:
        """Return the file name of another shard of the set."""
        return f"{self.stem}-{number:05d}-of-{self.count:05d}{self.suffix}"


def is_temporary(name: str) -> bool:
    """Tell whether a name marks something half-written, hidden or put aside."""
    return any(fnmatchcase(name, pattern) for pattern in _TEMPORARY)


def is_plain_name(name: str) -> bool:
    """Tell whether a name from a file stays inside its own directory."""
    is_short = 0 < len(name) <= _LONGEST_NAME
    return is_short and name not in {".", ".."} and not set(name) & set("/\\:\0")


def step_of(name: str) -> int | None:
    """Return the step in a checkpoint's name (without suffix), None when it has none.

    A bare number of six digits or more counts too: sd-scripts puts the epoch there, which
    orders a run's files as well as a step does.
    """
    match = _ONETRAINER.fullmatch(name) or _STEP.fullmatch(name) or _NUMBERED.fullmatch(name)
    return int(match["step"]) if match else None


def group_of(path: Path) -> str:
    """Return the run a checkpoint seems to belong to: where it lies, and its name without step.

    ``out/checkpoint-300`` belongs to ``out``, as does a last save into ``out`` itself;
    ``out/cat-step00000300.safetensors`` and ``out/cat.safetensors`` belong to ``out/cat``; an
    adapter's own folder inside a step keeps its name: ``out/checkpoint-300/critic`` belongs to
    ``out/critic``. OneTrainer's backups belong to the directory they lie in and its saves to their
    prefix, whatever the time in their names, Lightning's to the directory; sd-scripts' states are a
    run beside that of its files.
    """
    stem = _stem(path)
    if stem.endswith(STATE) and stem != STATE:
        return group_of(path.with_name(stem.removesuffix(STATE))) + STATE
    dated = _ONETRAINER.fullmatch(stem)
    if dated and dated["kind"] == "save":
        return str(path.parent / f"{dated['prefix']}save")
    if dated or _LIGHTNING.fullmatch(stem):
        return str(path.parent)
    match = _STEP.fullmatch(stem) or _NUMBERED.fullmatch(stem)
    if match:
        return str(path.parent / match["stem"]) if match["stem"] else str(path.parent)
    if _STEP.fullmatch(path.parent.name):
        return str(Path(group_of(path.parent)) / stem)
    return str(path.parent / stem)


def step_of_path(path: Path) -> int | None:
    """Return the step in a path's last name, else in the directory it lies in."""
    step = step_of(_stem(path))
    if step is not None:
        return step
    match = _STEP.fullmatch(path.parent.name)
    return int(match["step"]) if match else None


def shard_of(name: str) -> Shard | None:
    """Return what a shard's file name says, None for the name of a whole file."""
    match = _SHARD.fullmatch(name)
    if not match or not 1 <= int(match["number"]) <= int(match["count"]):
        return None
    return Shard(match["stem"], int(match["number"]), int(match["count"]), match["suffix"])


def _stem(path: Path) -> str:
    shard = shard_of(path.name)
    if shard:
        return shard.stem
    suffix = next((end for end in _SUFFIXES if path.name.endswith(end)), "")
    return path.name.removesuffix(suffix)
