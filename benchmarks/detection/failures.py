"""Train every recipe of the bundled trainer's failures and its healthy twin; say what is named.

    python benchmarks/detection/failures.py [--results FILE] [--only WORDS] [--jobs N]

Each training is a process of its own on one pre-trained tiny Llama. Its checkpoints are judged as
`sentinel scan` does. A recipe is right when a finding that its index names is found and nothing is
found on its twin.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import yaml
from trainings import run

import sentinel
from sentinel.machine.device import gpus

LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes")
BASE_STEPS = 150
HEAD = """| recipe | story | named | at step | of | its twin |
|---|---|---|---|---|---|"""


@dataclass(frozen=True)
class Played:
    """One recipe: what was named first of what it promises, and what was said of its twin."""

    name: str
    story: int | None
    named: str | None
    step: int | None
    last_step: int | None
    twin: tuple[str, ...]

    @property
    def is_right(self) -> bool:
        return self.named is not None and not self.twin

    def row(self) -> str:
        twin = "healthy" if not self.twin else ", ".join(self.twin)
        cells = (self.name, self.story or "", self.named or "**nothing**", self.step)
        return f"| {' | '.join(map(str, (*cells, self.last_step, twin)))} |"


def main() -> int:
    """Play the chosen recipes and print a table of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="recipes whose name contains this")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "any"), default="cpu")
    parser.add_argument("--results", type=Path, help="write the page there, too")
    options = parser.parse_args()
    recipes = Path(str(files("sentinel_trainer") / "recipes" / "failures"))
    index = yaml.safe_load((recipes / "index.yaml").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        grown = ("-m", "sentinel_trainer.tiny_base", str(place / "base"), "--steps")
        if run((*grown, str(BASE_STEPS)), place / "base.log", options.device):
            print((place / "base.log").read_text(), file=sys.stderr)
            return 1
        play = partial(_play, recipes=recipes, place=place, device=options.device)
        chosen = [(name, entry) for name, entry in index.items() if options.only in name]
        with ThreadPoolExecutor(options.jobs) as pool:
            found = list(pool.map(lambda one: play(*one), chosen))
    page = _page(found, options.device)
    print(page)
    if options.results:
        options.results.write_text(page, encoding="utf-8")
    return sum(not one.is_right for one in found)


def _play(
    name: str, entry: Mapping[str, object], *, recipes: Path, place: Path, device: str
) -> Played:
    train = partial(_train, str(recipes / f"{name}.yaml"), place, device=device)
    again = entry.get("then")
    if again:
        step, harm = f"checkpoint-{again['step']}", again["harm"]
        bad, good = train("bad"), train("good")
        bad = train("bad", "--resume", str(bad / step), *harm)
        good = train("good", "--resume", str(good / step))
    else:
        healthy = [word for option in entry["healthy"] for word in ("--set", option)]
        bad, good = train("bad"), train("good", *healthy)
    judged = sentinel.scan(bad, settle_s=0)
    named = [
        (one.checkpoint.step, found.rule)
        for one in judged
        for found in one.verdict.findings
        if found.rule in entry["named"]
    ]
    step, rule = min(named, default=(None, None))
    said = {f.rule for one in sentinel.scan(good, settle_s=0) for f in one.verdict.findings}
    last = max((one.checkpoint.step for one in judged), default=None)
    played = Played(name, entry.get("story"), rule, step, last, tuple(sorted(said)))
    print(played.row(), file=sys.stderr, flush=True)
    return played


def _train(recipe: str, place: Path, arm: str, *options: str, device: str) -> Path:
    """Train into a directory of its own and return that; a NaN at the end is no error here."""
    out = place / f"{Path(recipe).stem}-{arm}"
    where = ("--set", f"base.model={place / 'base'}", "--set", f"output_dir={out}")
    quiet = ("--set", "training.tensorboard=false")
    command = ("-m", "sentinel_trainer.main", recipe, *where, *quiet, *options)
    code = run(command, place / f"{out.name}.log", device)
    if code:
        print(f"{out.name} ended with {code}", file=sys.stderr)
    return out


def _page(found: Sequence[Played], device: str) -> str:
    names = [gpu.name for gpu in gpus()] if device == "any" else []
    right = sum(one.is_right for one in found)
    said = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return f"""# The trainer's recipes of failures

{right} of {len(found)} recipes are named and their healthy twins left alone.
`at step` is the first checkpoint with a finding that the recipe's index names, `of` the last one.

{", ".join(names) or "No GPU"}; {platform.system()}, {platform.machine()}, \
Python {platform.python_version()}, {said}.

{HEAD}
{chr(10).join(one.row() for one in found)}

Again:

    python benchmarks/detection/failures.py --device {device} --results FILE
"""


if __name__ == "__main__":
    sys.exit(main())
