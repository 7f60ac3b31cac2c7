"""Let sentinel repair each failing training of the detection benchmark, beside two controls.

    python benchmarks/repair/run.py [--seeds 11 12] [--jobs N] [--minilm MODEL] [--out FILE]

Each failing case of set B is trained four times: as its healthy twin; under `sentinel run`, which
detects, stops and repairs by itself; and under two controls that judge by the same rules and use
the same planner, recipe and number of attempts, but restart without a change, or with a remedy
drawn at random from those the catalogue knows. Repaired means that the fault is gone from the last
checkpoint and its loss is within 10 % of the twin's. `report.py FILE` prints the rates.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "detection"))

from cases import FAULTS, Case, cases  # noqa: E402 - a script finds its neighbours itself
from control import Training, drawn, plain, play  # noqa: E402
from outcome import Outcome, outcome  # noqa: E402
from trainings import STEPS, make_base, run, write_recipe  # noqa: E402
from twins import twin_of  # noqa: E402

import sentinel  # noqa: E402
from sentinel.rules.load import load_rules  # noqa: E402

ATTEMPTS = 4
CONTROLLED = ("sentinel", "restart", "random")
_PLAN = re.compile(r"[0-9:]{8}  plan ")


def main() -> int:
    """Run the cases and write what came of them."""
    options = _options()
    chosen = [
        case
        for case in cases("b")
        if case.fault
        and options.only in case.name
        and case.settings["training.seed"] in options.seeds
    ]
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) if options.keep is None else options.keep.resolve()
        place.mkdir(parents=True, exist_ok=True)
        for name in sorted({case.base for case in chosen}):
            make_base(name, place, device=options.device, minilm=options.minilm)
        with ThreadPoolExecutor(options.jobs) as pool:
            play = partial(_case, place=place, device=options.device, arms=options.arms)
            results = list(pool.map(play, chosen))
    text = json.dumps({"seeds": options.seeds, "attempts": ATTEMPTS, "cases": results}, indent=1)
    options.out.write_text(f"{text}\n")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12, 13])
    parser.add_argument("--arms", nargs="+", choices=CONTROLLED, default=CONTROLLED)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--out", type=Path, default=Path("repair.json"))
    parser.add_argument("--keep", type=Path, help="a directory for the trainings' files")
    parser.add_argument("--minilm", type=Path, help="the encoder's directory, else its package's")
    parser.add_argument("--device", choices=("cpu", "any"), default="cpu")
    return parser.parse_args()


def _case(case: Case, *, place: Path, device: str, arms: Sequence[str]) -> dict[str, object]:
    """Train one case's twin, and the case in each way, and say how they ended."""
    name = case.name.replace(" ", "_").replace("/", "-")
    seed = zlib.crc32(case.name.encode())
    ways: dict[str, Callable[[Training], object]] = {
        "twin": lambda training: run(training.command[1:], training.beside("log"), device),
        "sentinel": lambda training: _under_sentinel(training, device),
        "restart": lambda training: play(training, plain, attempts=ATTEMPTS, device=device),
        "random": lambda training: play(training, drawn(seed), attempts=ATTEMPTS, device=device),
    }
    ended: dict[str, dict[str, object]] = {}
    for arm in ("twin", *arms):
        started_s = time.monotonic()
        out = place / f"{name}-{arm}"
        told = twin_of(case) if arm == "twin" else case
        wanted = FAULTS[case.fault or ""].caught_by
        training = Training(write_recipe(told, place, out), out, place / case.base, wanted)
        did = ways[arm](training)
        found = _outcome(training)
        took_s = round(time.monotonic() - started_s, 1)
        ended[arm] = {**asdict(found), "did": did, "took_s": took_s}
        if arm == "twin":
            twin = found
        ended[arm]["repaired"] = found.repaired(twin.loss)
    told = {arm: (one["repaired"], one["loss"]) for arm, one in ended.items()}
    print(f"{case.name} ({case.fault}): {told}", file=sys.stderr, flush=True)
    return {"name": case.name, "fault": case.fault, "arms": ended}


def _outcome(training: Training) -> Outcome:
    if not training.out.is_dir():
        return Outcome(gone=False, loss=None, step=None)
    judged = sentinel.scan(training.out, base=training.base, settle_s=0)
    return outcome(judged, training.wanted, steps=STEPS)


def _under_sentinel(training: Training, device: str) -> list[str]:
    """Run the user's command under `sentinel run`; return the plans it made, one a repair."""
    state = training.beside("state")
    config = training.beside("sentinel.yaml")
    likely = [
        rule.id for rule in load_rules() if rule.safety == "likely" and "resume" in rule.remedy
    ]
    settings = {"act_on": likely, "max_attempts": ATTEMPTS, "backoff_s": 0.1, "settle_s": 0.2}
    config.write_text(yaml.safe_dump(settings))
    options = ("--state", str(state), "--config", str(config), "--base", str(training.base))
    command = ("-m", "sentinel", "run", *options, "--", *training.command)
    run(command, training.beside("log"), device)
    said = training.beside("log").read_text(errors="replace")
    return [line for line in said.splitlines() if _PLAN.match(line)]


if __name__ == "__main__":
    sys.exit(main())
