"""Print the repair rates that `run.py` found, each with n and its 95 % interval.

python benchmarks/repair/report.py RESULTS.json...
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "detection"))

from cases import FAULTS
from rates import rate

ARMS = ("sentinel", "restart", "random")


def main() -> int:
    """Print a Markdown report."""
    cases = [case for name in sys.argv[1:] for case in json.loads(Path(name).read_text())["cases"]]
    for line in (*by_fault(cases), "", *one_by_one(cases)):
        print(line)
    return 0


def by_fault(cases: Sequence[Mapping]) -> Iterator[str]:
    """Yield a table with one row a fault class and one column a way of repair."""
    yield "| fault | repaired by sentinel | by a plain restart | by a random remedy |"
    yield "|---|---|---|---|"
    for fault in (*FAULTS, None):
        ours = [case for case in cases if fault in {None, case["fault"]}]
        cells = []
        for arm in ARMS:
            tried = [case for case in ours if arm in case["arms"]]
            cells.append(rate(sum(repaired(case, arm) for case in tried), len(tried)))
        yield f"| {fault or 'all'} | {' | '.join(cells)} |"


def one_by_one(cases: Sequence[Mapping]) -> Iterator[str]:
    """Yield a table with the last loss of each training and how many repairs were tried."""
    yield "| training | twin | sentinel | plain restart | random remedy |"
    yield "|---|---|---|---|---|"
    for case in cases:
        cells = [_loss(case, "twin"), *(_told(case, arm) for arm in ARMS)]
        yield f"| {case['name']} | {' | '.join(cells)} |"


def repaired(case: Mapping, arm: str) -> bool:
    """Tell whether one training was repaired that way."""
    return case["arms"][arm]["repaired"]


def _told(case: Mapping, arm: str) -> str:
    """Return the last loss, in bold where it was repaired, and how many repairs were tried."""
    if arm not in case["arms"]:
        return ""
    loss = _loss(case, arm)
    tried = len(case["arms"][arm]["did"])
    return f"**{loss}** ({tried})" if repaired(case, arm) else f"{loss} ({tried})"


def _loss(case: Mapping, arm: str) -> str:
    loss = case["arms"][arm]["loss"]
    return "none" if loss is None else f"{loss:.3f}"


if __name__ == "__main__":
    sys.exit(main())
