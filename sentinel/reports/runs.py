"""Every run of a health log, a line each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sentinel.health.query import sql
from sentinel.reports.table import print_table

if TYPE_CHECKING:
    from rich.console import Console

_RUNS = """
SELECT substr(run_id, 1, 8) AS run,
       count(DISTINCT attempt) AS attempts,
       count(*) AS checkpoints,
       count(*) FILTER (verdict = 'faulty') AS faulty,
       max(step) AS last_step,
       arg_max(verdict, (attempt, seq)) AS last_verdict,
       strftime(max(judged_at), '%Y-%m-%d %H:%M') AS last_judged_utc,
       arg_max(path, (attempt, seq)) AS last_path
FROM checkpoints
GROUP BY run_id
ORDER BY max(judged_at)
"""


def render_runs(root: Path, console: Console) -> None:
    """Print the runs of the health log at ``root``, the newest last."""
    runs = sql(root, _RUNS)
    if not runs.num_rows:
        console.print(f"no run in the health log '{root}' yet", markup=False, soft_wrap=True)
        return
    print_table(runs, console, "text")
    console.print("\nsentinel log RUN tells what happened in one of them", style="dim")
