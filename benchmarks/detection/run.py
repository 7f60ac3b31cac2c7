"""Train failing runs and their healthy twins, judge every checkpoint, and count.

    python benchmarks/detection/run.py SET [--jobs N] [--only WORDS] [--out FILE] [--device cpu]

SET is `a` or `b` (see `cases.py`). Each training is a process of its own: the bundled trainer on a
tiny Llama, 60 steps, a checkpoint every 10. Each run's checkpoints are then judged as `sentinel
scan --base` does, and removed; `--keep DIRECTORY` keeps them, and trains nothing that ended there
before, so that other rules can be asked about the same runs. Results go to FILE as JSON;
`report.py FILE ...` prints them.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from cases import Case, cases
from trainings import make_base, run, write_recipe

import sentinel
from sentinel.checkpoint import Base
from sentinel.formats.base import read_base
from sentinel.stats.base_norms import GIVEN_BUDGET_BYTES, BaseNorms
from sentinel.stats.base_tables import base_tables


def main() -> int:
    """Run the cases of a set and write what came of them."""
    options = _options()
    chosen = [case for case in cases(options.set) if options.only in case.name]
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) if options.keep is None else options.keep.resolve()
        place.mkdir(parents=True, exist_ok=True)
        for name in sorted({case.base for case in chosen}):
            make_base(name, place, device=options.device, minilm=options.minilm)
        keep = options.keep is not None
        play = partial(_play, place=place, device=options.device, keep=keep)
        with ThreadPoolExecutor(options.jobs) as pool:
            results = list(pool.map(play, chosen))
    options.out.write_text(json.dumps({"set": options.set, "cases": results}, indent=1) + "\n")
    failed = [result["name"] for result in results if result["exit_code"]]
    for name in failed:
        print(f"training failed: {name}", file=sys.stderr)
    return len(failed)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set", choices=("a", "b"))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--out", type=Path, default=Path("detection.json"))
    parser.add_argument("--keep", type=Path, help="a directory for the trainings' files")
    parser.add_argument("--minilm", type=Path, help="the encoder's directory, else its package's")
    parser.add_argument("--device", choices=("cpu", "any"), default="cpu")
    return parser.parse_args()


def _play(case: Case, *, place: Path, device: str, keep: bool) -> dict[str, object]:
    """Train one case, judge its checkpoints, and remove them unless they are kept."""
    out = place / case.name.replace(" ", "_").replace("/", "-")
    file = write_recipe(case, place, out)
    started_s = time.monotonic()
    log = place / f"{out.name}.log"
    ended = place / f"{out.name}.exit"
    if not ended.exists():
        shutil.rmtree(out, ignore_errors=True)
        code = run(("-m", "sentinel_trainer.main", str(file)), log, device)
        ended.write_text(str(code))
    exit_code = int(ended.read_text())
    trained_s = time.monotonic() - started_s
    judged = sentinel.scan(out, base=place / case.base, settle_s=0) if out.is_dir() else ()
    model, norms = read_base(place / case.base), BaseNorms(GIVEN_BUDGET_BYTES)
    result = {
        "name": case.name,
        "fault": case.fault,
        "exit_code": exit_code,
        "trained_s": round(trained_s, 1),
        "judged_s": round(time.monotonic() - started_s - trained_s, 1),
        "eval_loss": _last(judged, "eval_loss"),
        "checkpoints": [
            {
                "step": one.checkpoint.step,
                "level": one.verdict.level,
                "rules": sorted({found.rule for found in one.verdict.findings}),
                "facts": _facts(one, model, norms),
            }
            for one in judged
        ],
    }
    if not keep:
        shutil.rmtree(out, ignore_errors=True)
    print(f"{case.name}: {_summary(result)}", file=sys.stderr, flush=True)
    return result


def _last(judged: tuple[sentinel.Judgement, ...], name: str) -> float | None:
    values = [m.value for one in judged for m in one.checkpoint.metrics if m.name == name]
    return values[-1] if values else None


def _change(pair: Mapping[str, float]) -> float | None:
    known = pair["norm"] is not None and pair["base_norm"]
    return pair["norm"] / pair["base_norm"] if known else None


def _growth(pair: Mapping[str, float]) -> float | None:
    """Return how much larger lora_down is than one fresh from PEFT's default initialisation."""
    return pair["down_rms"] and pair["down_rms"] * math.sqrt(3.0 * pair["in_features"])


def _facts(one: sentinel.Judgement, base: Base, norms: BaseNorms) -> dict[str, object]:
    """Return the numbers that thresholds are chosen by, independent of any rule."""
    if one.measured is None:
        return {}
    tensors = one.measured.tensors.to_pylist()
    pairs = base_tables(base, one.measured, norms)["pairs"].to_pylist()
    groups = one.measured.optimizer_groups
    return {
        "non_finite": sum((t["nan_count"] or 0) + (t["inf_count"] or 0) for t in tensors),
        "change": max((c for c in map(_change, pairs) if c is not None), default=None),
        "growth": max((g for g in map(_growth, pairs) if g is not None), default=None),
        "up_rms": [min(r), max(r)] if (r := [p["up_rms"] for p in pairs if p["up_rms"]]) else None,
        "d": groups["d"].to_pylist() if groups is not None else None,
    }


def _summary(result: Mapping[str, object]) -> str:
    rules = [(c["step"], c["rules"]) for c in result["checkpoints"] if c["rules"]]
    first = f"first finding at {rules[0][0]}: {', '.join(rules[0][1])}" if rules else "quiet"
    return f"loss {result['eval_loss']}, {first} ({result['fault'] or 'healthy'})"


if __name__ == "__main__":
    sys.exit(main())
