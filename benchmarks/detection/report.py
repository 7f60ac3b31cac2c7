"""Print what `run.py` found: per fault class and rule, caught, when, missed, false alarms.

    python benchmarks/detection/report.py RESULTS.json ...

Rates stand beside n and their 95 % interval (Wilson, https://doi.org/10.2307/2276774): a run is
caught when any finding that speaks of its fault class comes up, a false alarm is any finding worse
than information on a checkpoint of a healthy run.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cases import FAULTS
from rates import rate


def main() -> int:
    """Print a Markdown report of each file."""
    for name in sys.argv[1:]:
        results = json.loads(Path(name).read_text())
        print(f"## Set {results['set'].upper()}\n")
        for line in (*by_fault(results["cases"]), "", *by_rule(results["cases"]), ""):
            print(line)
        for line in (*healthy(results["cases"]), ""):
            print(line)
    return 0


def by_fault(cases: Sequence[Mapping]) -> Iterator[str]:
    """Yield a table with one row a fault class."""
    yield "| fault | caught | first named at the checkpoint of step | missed |"
    yield "|---|---|---|---|"
    total = caught_total = 0
    for fault in FAULTS:
        ours = [case for case in cases if case["fault"] == fault]
        steps = [first_caught(case) for case in ours]
        caught = [step for step in steps if step is not None]
        missed = [case["name"] for case, step in zip(ours, steps, strict=True) if step is None]
        at = ", ".join(f"{step} ({n})" for step, n in sorted(Counter(caught).items()))
        yield f"| {fault} | {rate(len(caught), len(ours))} | {at} | {'; '.join(missed) or '-'} |"
        total, caught_total = total + len(ours), caught_total + len(caught)
    yield f"| all | {rate(caught_total, total)} | | |"


def by_rule(cases: Sequence[Mapping]) -> Iterator[str]:
    """Yield a table with one row a rule: in how many failing and healthy runs it spoke."""
    failing, sound = Counter(), Counter()
    for case in cases:
        spoke = {rule for one in case["checkpoints"] for rule in one["rules"]}
        (sound if case["fault"] is None else failing).update(spoke)
    yield "| rule | failing runs it spoke in | healthy runs it spoke in |"
    yield "|---|---|---|"
    for rule in sorted({*failing, *sound}):
        yield f"| `{rule}` | {failing[rule]} | {sound[rule]} |"


def healthy(cases: Sequence[Mapping]) -> Iterator[str]:
    """Yield the false alarms, by run and by checkpoint."""
    runs = [case for case in cases if case["fault"] is None and not case["exit_code"]]
    levels = [{one["level"] for one in run["checkpoints"]} for run in runs]
    points = Counter(one["level"] for run in runs for one in run["checkpoints"])
    count = sum(points.values())
    broken = [case["name"] for case in cases if case["exit_code"]]
    if broken:
        yield f"Trainings that did not end, left out: {'; '.join(broken)}."
    faulty = sum("faulty" in one for one in levels)
    yield f"Healthy runs called `faulty`: {rate(faulty, len(runs))}."
    yield f"Their checkpoints called `faulty`: {rate(points['faulty'], count)}."
    yield f"Their checkpoints called `suspect`: {rate(points['suspect'], count)}."


def first_caught(case: Mapping) -> int | None:
    """Return the step of the first checkpoint whose findings name the case's fault."""
    wanted = FAULTS[case["fault"]].caught_by
    steps = (one["step"] for one in case["checkpoints"] if wanted & set(one["rules"]))
    return next(steps, None)


if __name__ == "__main__":
    sys.exit(main())
