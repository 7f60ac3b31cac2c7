"""What a repair on files changes, as values: the plan of a copy, and the receipt of a written one.

Nothing here does I/O. `sentinel.repairs.files` makes these values; the reports show them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from sentinel.checkpoint import Part, path_text

CastTo = Literal["fp32", "bf16", "fp16"]
OptimizerWish = Literal["keep", "cast", "drop"]
How = Literal["copied", "cast", "renamed", "cast and renamed", "edited"]
"""What became of a file: as it was, with other values, other keys, both, or another text."""


@dataclass(frozen=True, slots=True)
class Loss:
    """How many finite values of some tensors a cast does not keep, and where it begins.

    Values that only round are none of them: ``overflow_count`` became infinite,
    ``underflow_count`` became zero and were none.
    """

    value_count: int = 0
    overflow_count: int = 0
    underflow_count: int = 0
    first_overflow: str = ""
    first_underflow: str = ""

    def __add__(self, other: Loss) -> Loss:
        return Loss(
            self.value_count + other.value_count,
            self.overflow_count + other.overflow_count,
            self.underflow_count + other.underflow_count,
            self.first_overflow or other.first_overflow,
            self.first_underflow or other.first_underflow,
        )

    def __bool__(self) -> bool:
        """Tell whether anything is lost."""
        return bool(self.overflow_count or self.underflow_count)


@dataclass(frozen=True, slots=True)
class DTypeChange:
    """How many tensors of one part go from one dtype to another; both are safetensors names."""

    part: Part
    before: str
    after: str
    tensor_count: int
    value_count: int


@dataclass(frozen=True, slots=True)
class NewFile:
    """One file of the copy. ``path`` is relative to its root, as ``source`` is to the original's.

    ``sha256`` is "" until it is written, ``size_bytes`` until then an estimate for pickled files.
    """

    path: str
    source: str
    how: How
    size_bytes: int
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """What a copy of a checkpoint would be. ``target`` is the new checkpoint's path.

    ``left_out`` holds files of the original with the reason why the copy has none of them,
    ``renamed`` keys before and after, ``losses`` what the cast of a part does not keep. ``go_on``
    says how the trainer is told to take the copy, ``notes`` what else to know then.
    """

    source: Path
    layout: str
    trainer: str | None
    step: int | None
    target: Path
    is_directory: bool
    cast: CastTo | None
    optimizer: OptimizerWish
    files: tuple[NewFile, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    dtypes: tuple[DTypeChange, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    losses: tuple[tuple[Part, Loss], ...] = ()
    go_on: str = ""
    notes: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Return the bytes of all files together."""
        return sum(file.size_bytes for file in self.files)

    @property
    def changes(self) -> bool:
        """Tell whether the copy differs from the original in anything but its place."""
        return bool(self.left_out) or any(file.how != "copied" for file in self.files)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was written: the plan with the digests of its files, and where this is noted.

    ``made_at`` is UTC in ISO 8601; ``originals`` are the original's files with their digests,
    ``made_directories`` the directories around the copy that had to be made.
    """

    plan: CopyPlan
    path: Path
    made_at: str
    originals: tuple[tuple[str, str], ...]
    made_directories: tuple[Path, ...] = ()


def plan_object(plan: CopyPlan) -> dict[str, object]:
    """Return a plan as what JSON is made of; `docs/repair.md` says what each key means."""
    return {
        "source": path_text(plan.source),
        "target": path_text(plan.target),
        "is_directory": plan.is_directory,
        "layout": plan.layout,
        "trainer": plan.trainer,
        "step": plan.step,
        "cast": plan.cast,
        "optimizer": plan.optimizer,
        "dtypes": [asdict(one) for one in plan.dtypes],
        "losses": {part: asdict(loss) for part, loss in plan.losses},
        "renamed": dict(plan.renamed),
        "left_out": dict(plan.left_out),
        "files": {
            file.path: {
                "from": file.source,
                "how": file.how,
                "size_bytes": file.size_bytes,
                "sha256": file.sha256,
            }
            for file in plan.files
        },
        "go_on": plan.go_on,
        "notes": list(plan.notes),
    }
