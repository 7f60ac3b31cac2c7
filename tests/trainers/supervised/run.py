"""Run whole trainings by trainers that are no packages under `sentinel run`, each with a fault.

    python tests/trainers/supervised/run.py TRAINERS_DIR [NAME ...] [--keep DIR]

TRAINERS_DIR is that of `check.py`, which makes the environments these trainings use as well. What
the trainers are fed is small enough for a CPU; everything else is their own. What came of a
training is kept in `facts/supervised_NAME.json`: what was found at which step, what was planned and
changed, whether it helped, the exit code. Nothing of a trainer itself is kept. With `--keep` the
trainings' files stay in that directory, else they go.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from case import Case, Trainer

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

from check import FACTS, commit_of, interpreter_of, lines_of  # noqa: E402 - a neighbour
from telling import told  # noqa: E402

PROBES = HERE.parent / "probes"
NAMES = ("llama_factory", "axolotl", "onetrainer", "ai_toolkit", "simpletuner")
TIMEOUT_S = 900
VERSIONS = """
import importlib.metadata as known, json
names = ("torch", "transformers", "peft", "accelerate", "diffusers", "trl", "prodigyopt")
found = {}
for name in names:
    try:
        found[name] = known.version(name).partition("+")[0]
    except known.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


def main() -> int:
    """Run the trainings of the trainers asked for, all without a name; return how many failed."""
    options = _options()
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) if options.keep is None else options.keep.resolve()
        for name in options.names or NAMES:
            trainer: Trainer = importlib.import_module(name).TRAINER
            checkout = (options.directory / trainer.checkout).absolute()
            if not checkout.is_dir():
                print(f"{name}: not run, {checkout} is not there", file=sys.stderr)
                continue
            failed += not _supervise(name, trainer, checkout, place, only=options.only)
    return failed


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, metavar="TRAINERS_DIR")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--keep", type=Path, help="a directory for the trainings' files")
    return parser.parse_args()


@dataclass(frozen=True, slots=True)
class Started:
    """A trainer as it is started here; ``place`` holds a directory for each of its cases."""

    trainer: Trainer
    python: str
    checkout: Path
    place: Path
    environment: Mapping[str, str]


def _supervise(name: str, trainer: Trainer, checkout: Path, place: Path, *, only: str) -> bool:
    """Run one trainer's cases and keep what came of them; tell whether all ended well."""
    python = interpreter_of(PROBES / f"{name}.py", checkout)
    environment = _environment(trainer, checkout, Path(python).parents[1], place)
    started = Started(trainer, python, checkout, place / name, environment)
    facts: dict[str, dict[str, object]] = {}
    for title, case in trainer.cases.items():
        if only in title:
            began_s = time.monotonic()
            facts[title] = _one(case, started, place / name / title.replace(" ", "-"))
            took_s = time.monotonic() - began_s
            print(f"{name}, {title}: {facts[title]} in {took_s:.0f} s", file=sys.stderr, flush=True)
    done = subprocess.run([python, "-c", VERSIONS], capture_output=True, check=True)
    said = {
        "repository": trainer.repository,
        "commit": commit_of(checkout),
        "versions": json.loads(done.stdout),
    }
    _keep(FACTS / f"supervised_{name}.json", said, facts, known=trainer.cases)
    return not any(one["exit_code"] for one in facts.values())


def _keep(
    path: Path,
    said: dict[str, object],
    facts: dict[str, dict[str, object]],
    *,
    known: Collection[str],
) -> None:
    """Write what came of the cases; other known ones stay where the same trainer said them."""
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    is_same = all(before.get(name) == value for name, value in said.items())
    kept = before["cases"] if is_same else {}
    cases = {title: one for title, one in {**kept, **facts}.items() if title in known}
    text = "\n".join(lines_of({**said, "cases": cases}))
    path.write_text(f"{text}\n", encoding="utf-8")


def _one(case: Case, started: Started, here: Path) -> dict[str, object]:
    """Run one case in a directory of its own."""
    if here.exists():
        shutil.rmtree(here)
    here.mkdir(parents=True)
    base = _base(started.place.parent) if started.trainer.wants_base else None
    filled = {
        "{base}": str(base),
        "{here}": str(here),
        "{checkout}": str(started.checkout),
        "{python}": started.python,
    }

    def fill(text: str) -> str:
        for name, value in filled.items():
            text = text.replace(name, value)
        return text

    for path, text in case.files.items():
        (here / path).parent.mkdir(parents=True, exist_ok=True)
        (here / path).write_text(fill(text), encoding="utf-8")
        (here / path).chmod(0o755 if path.startswith("bin/") else 0o644)
    settings = {"act_on": list(case.act_on), "backoff_s": 0.1, "settle_s": 0.2}
    (here / "sentinel.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    state = here / "state"
    options = ["--state", str(state), "--config", str(here / "sentinel.yaml")]
    options += ["--base", str(base)] if base else []
    command = [started.python, *map(fill, case.command)]
    with (here / "said.txt").open("wb") as said:
        code = subprocess.run(
            [sys.executable, "-m", "sentinel", "run", *options, "--", *command],
            cwd=started.checkout if started.trainer.at_checkout else here,
            env={
                **os.environ,
                **started.environment,
                "SUPERVISED_HERE": str(here),
                "PATH": os.pathsep.join([str(here / "bin"), os.environ["PATH"]]),
            },
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT_S,
            check=False,
        ).returncode
    return {"command": list(case.command), "exit_code": code, **told(state, here)}


def _environment(trainer: Trainer, checkout: Path, prefix: Path, place: Path) -> Mapping[str, str]:
    """Return the variables under which a trainer finds its own code and what stands in."""
    paths = [checkout / part for part in trainer.paths]
    if trainer.version_file:
        version = (checkout / trainer.version_file).read_text(encoding="utf-8").strip()
        known = place / "known" / f"{trainer.checkout}-{version}.dist-info"
        known.mkdir(parents=True, exist_ok=True)
        metadata = f"Metadata-Version: 2.1\nName: {trainer.checkout}\nVersion: {version}\n"
        (known / "METADATA").write_text(metadata, encoding="utf-8")
        paths.append(known.parent)
    before = os.environ.get("PYTHONPATH")
    return {
        "SUPERVISED_PREFIX": str(prefix),
        "SUPERVISED_PATH": os.pathsep.join(map(str, [*paths, PROBES])),
        "SUPERVISED_STANDS_IN": " ".join(trainer.stands_in),
        "SUPERVISED_FEEDS": trainer.feeds,
        "SUPERVISED_CHECKOUT": str(checkout),
        "PYTHONPATH": os.pathsep.join(filter(None, [before, str(HERE / "site")])),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",
        **trainer.environment,
    }


def _base(place: Path) -> Path:
    """Return the small language model, trained when it is not there yet."""
    base = place / "base"
    if not base.is_dir():
        command = [sys.executable, "-m", "sentinel_trainer.tiny_base", str(base), "--seed", "0"]
        subprocess.run(command, check=True, stdout=sys.stderr)
    return base


if __name__ == "__main__":
    sys.exit(main())
