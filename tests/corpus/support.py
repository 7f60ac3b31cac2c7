"""The page that says what was tested: which library wrote, at which version, and how trainers were.

It is made from the registry of cases, `constraints.txt`, and the facts files of trainers, so it
cannot say more than the tests do. `docs/generate.py` writes it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from corpus.case import Case
from corpus.registry import CASES

PAGE = "support.md"
ROOT = Path(__file__).resolve().parents[2]

_GITHUB = "https://github.com/"

_HEAD = """\
# What was tested

<!-- Written by `python docs/generate.py` from the cases of `tests/corpus/`. -->

Each case of the corpus is a checkpoint that a real library wrote, and the truth about it: layout,
verdict, findings, step, settings, every tensor's role, ranks and scales.
Where the library reads what it wrote, names, shapes, dtypes and values are compared with its own
reader's, bit for bit.
`make corpus` writes them all and scans them as a user would;
[benchmarks/corpus.md](../benchmarks/corpus.md) has the figures.
"""

_TRAINERS_HEAD = """\
`run`: the tests run it, or the library that saves for it, and read what it wrote.
`facts`: it is no package; its own savers and configuration parsers were run from a checkout at
the commit by `make trainers-check`, and the tests lay out again what they wrote.
`read only`: known from its source alone.
"""


@dataclass(frozen=True, slots=True)
class Trainer:
    """A trainer whose checkpoints are read: its name, its layouts, and who says how they look.

    ``repository`` is where a facts file says its trainer is from; ``library`` is the
    distribution that the tests run, "" where there is none.
    """

    name: str
    layouts: tuple[str, ...]
    repository: str = ""
    library: str = ""


TRAINERS: tuple[Trainer, ...] = (
    Trainer("sentinel-train", ("sentinel-train",), library="transformers"),
    Trainer("Transformers Trainer", ("transformers-trainer",), library="transformers"),
    Trainer("PEFT in a script of one's own", ("peft",), library="peft"),
    Trainer("diffusers' scripts", ("diffusers-lora", "accelerate-state"), library="diffusers"),
    Trainer("accelerate in a script of one's own", ("accelerate-state",), library="accelerate"),
    Trainer("LyCORIS in a script of one's own", ("kohya",), library="lycoris-lora"),
    Trainer("torch.distributed.checkpoint, FSDP2", ("dcp",), library="torch"),
    Trainer("PyTorch Lightning", ("lightning",), library="pytorch-lightning"),
    Trainer("DeepSpeed", ("deepspeed",), library="deepspeed"),
    Trainer("OneTrainer", ("onetrainer-backup", "onetrainer-save"), "Nerogar/OneTrainer"),
    Trainer("SimpleTuner", ("simpletuner",), "bghira/SimpleTuner"),
    Trainer("sd-scripts", ("kohya", "sd-scripts-state"), "kohya-ss/sd-scripts"),
    Trainer("musubi-tuner", ("kohya", "sd-scripts-state"), "kohya-ss/musubi-tuner"),
    Trainer("ai-toolkit", ("ai-toolkit",), "ostris/ai-toolkit"),
    Trainer("Axolotl", ("transformers-trainer",), "axolotl-ai-cloud/axolotl"),
    Trainer("LLaMA-Factory", ("transformers-trainer",), "hiyouga/LLaMA-Factory"),
    Trainer("ms-swift", ("transformers-trainer",), "modelscope/ms-swift"),
    Trainer("MiniCPM-V", ("transformers-trainer",), "OpenBMB/MiniCPM-V"),
)


def render() -> str:
    """Return the Markdown page."""
    versions = pinned(ROOT / "constraints.txt")
    facts = commits(ROOT / "tests" / "trainers" / "facts")
    parts = [
        _HEAD,
        "## Libraries that wrote\n",
        *_table(("library", "version", "layouts", "healthy", "faulty"), _writers(versions)),
        "## Trainers\n",
        _TRAINERS_HEAD,
        *_table(("trainer", "layouts", "how"), _trainers(versions, facts)),
        "## Faults\n",
        "What was done to healthy checkpoints, or was written so on purpose.\n",
        *_table(("fault", "cases", "verdict", "findings"), _faults()),
    ]
    return "\n".join(parts).rstrip() + "\n"


def pinned(path: Path) -> dict[str, str]:
    """Return the versions that are tested together, by distribution."""
    lines = path.read_text(encoding="utf-8").splitlines()
    named = (line.partition("==") for line in lines if not line.startswith("#"))
    return {name: version for name, separator, version in named if separator}


def commits(directory: Path) -> dict[str, str]:
    """Return the commit that each repository with a facts file was at."""
    found = (json.loads(path.read_text(encoding="utf-8")) for path in directory.glob("*.json"))
    return {one["repository"].removeprefix(_GITHUB): one["commit"] for one in found}


def _writers(versions: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    for name in sorted({case.writer for case in CASES}):
        own = [case for case in CASES if case.writer == name]
        layouts = sorted({case.truth.layout for case in own})
        faulty = sum(bool(case.fault) for case in own)
        listed = ", ".join(f"`{layout}`" for layout in layouts)
        yield name, versions.get(name, ""), listed, str(len(own) - faulty), str(faulty)


def _trainers(versions: Mapping[str, str], facts: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    for trainer in TRAINERS:
        layouts = ", ".join(f"`{layout}`" for layout in trainer.layouts)
        commit = facts.get(trainer.repository)
        if trainer.library:
            how = f"`run`: {trainer.library} {versions.get(trainer.library, '')}".rstrip()
        elif commit is not None:
            how = f"`facts`: {trainer.repository} at {commit[:8]}"
        else:
            how = "`read only`"
        yield trainer.name, layouts, how


def _faults() -> Iterator[tuple[str, ...]]:
    faults: dict[str, list[Case]] = {}
    for case in CASES:
        if case.fault:
            faults.setdefault(case.fault, []).append(case)
    for fault in sorted(faults):
        cases = faults[fault]
        rules = Counter(rule for case in cases for rule in case.truth.findings)
        verdicts = sorted({case.truth.verdict for case in cases})
        # By count, and by name where that is equal: the order of a set is another each time.
        ordered = sorted(rules, key=lambda rule: (-rules[rule], rule))
        listed = ", ".join(f"`{rule}`" for rule in ordered)
        yield fault, str(len(cases)), ", ".join(verdicts), listed


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""
