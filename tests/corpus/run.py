"""Write the whole corpus, scan it as a user would, and say how many cases came out right.

    python tests/corpus/run.py [DIRECTORY] [--seed N] [--results FILE]

The corpus is written below DIRECTORY (a temporary one if none is given), each case by its own
library. Then `sentinel scan DIRECTORY --format json` runs in a process of its own; its time and
peak memory are told. A case is right when that report and everything else its truth says hold:
roles, modules, ranks and scales, settings, and the official reader's values. What cannot be
written here (a library that is not installed) is named and not counted. `--results` writes the
figures as Markdown.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from corpus.case import Case  # noqa: E402 - a script finds its neighbours itself
from corpus.checking import wrong  # noqa: E402
from corpus.registry import CASES  # noqa: E402

COMMAND = "make corpus"


@dataclass(frozen=True, slots=True)
class Scan:
    """What the scan's process said and took."""

    entries: Mapping[str, Mapping[str, Any]]
    seconds: float
    cpu_seconds: float
    peak_bytes: int


def main() -> int:
    """Return the number of cases that are wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("directory", nargs="?", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    os.environ["TQDM_DISABLE"] = "1"
    if options.directory is not None:
        options.directory.mkdir(parents=True, exist_ok=True)
        return report(options.directory.resolve(), options.seed, options.results)
    with tempfile.TemporaryDirectory() as name:
        return report(Path(name), options.seed, options.results)


def report(root: Path, seed: int, results: Path | None) -> int:
    """Write, scan, compare and tell; return the number of cases that are wrong."""
    paths, left_out, failed = write(root, seed)
    scan = scanned(root, [paths[case.id] for case in CASES if case.named and case.id in paths])
    complaints = {
        case.id: [
            *_reported(scan, case, paths[case.id]),
            *wrong(case, root / case.id, paths[case.id]),
        ]
        for case in CASES
        if case.id in paths
    }
    complaints |= {name: [f"could not be written: {reason}"] for name, reason in failed.items()}
    text = "\n".join(_lines(root, seed, scan, complaints, left_out)) + "\n"
    print(text)
    for name, found in complaints.items():
        for complaint in found:
            print(f"WRONG {name}: {complaint}", file=sys.stderr)
    if results is not None:
        results.write_text(text, encoding="utf-8")
    return sum(map(bool, complaints.values()))


def write(root: Path, seed: int) -> tuple[dict[str, Path], dict[str, str], dict[str, str]]:
    """Write every case that can be written here.

    Returns the paths by case, why some are left out, and the errors of those that failed.
    """
    paths: dict[str, Path] = {}
    left_out: dict[str, str] = {}
    failed: dict[str, str] = {}
    for case in CASES:
        missing = [name for name in case.needs if not _is_installed(name)]
        if missing:
            left_out[case.id] = f"{missing[0]} is not installed"
        elif case.as_user and os.geteuid() == 0:
            left_out[case.id] = "root may read everything"
        else:
            print(f"\r{len(paths) + 1} written: {case.id:60.60}", end="", file=sys.stderr)
            try:
                paths[case.id] = case.written(root, seed)
            except Exception as error:  # noqa: BLE001 - whatever a library raises, the rest goes on
                failed[case.id] = f"{type(error).__name__}: {error}"
    print(file=sys.stderr)
    return paths, left_out, failed


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def scanned(root: Path, named: Iterable[Path]) -> Scan:
    """Run the scan in a fresh process, and name to it what it finds only when it is named."""
    command = [sys.executable, "-m", "sentinel", "scan", str(root), *map(str, named)]
    with tempfile.TemporaryDirectory() as place:
        figures, output = Path(place) / "figures.json", Path(place) / "report.json"
        with output.open("wb") as opened:
            done = subprocess.run(
                [sys.executable, HERE / "measured.py", figures, *command, "--format", "json"],
                stdout=opened,
                cwd=root,
                check=False,
            )
        if not figures.exists():
            sys.exit(f"the scan did not end: its process gave {done.returncode}")
        took = json.loads(figures.read_text(encoding="utf-8"))
        entries = json.loads(output.read_text(encoding="utf-8"))["checkpoints"]
    return Scan({entry["path"]: entry for entry in entries}, **took)


def _reported(scan: Scan, case: Case, path: Path) -> Iterator[str]:
    """Compare the report's entry with the truth."""
    entry = scan.entries.get(str(path))
    if entry is None:
        yield "the report does not name it"
        return
    truth = case.truth
    said = {
        "layout": (entry["layout"], truth.layout),
        "trainer": (entry["trainer"], truth.trainer),
        "step": (entry["step"], truth.step),
        "verdict": (entry["verdict"], truth.verdict),
        "findings": ({one["rule"] for one in entry["findings"]}, set(truth.findings)),
        "usable": (tuple(entry["usable"]), truth.usable),
    }
    for name, (found, expected) in said.items():
        if found != expected:
            yield f"reported {name}: {found}, not {expected}"


def _lines(
    root: Path,
    seed: int,
    scan: Scan,
    complaints: Mapping[str, list[str]],
    left_out: Mapping[str, str],
) -> Iterator[str]:
    cases = [case for case in CASES if case.id in complaints]
    right = {case.id for case in cases if not complaints[case.id]}
    size = sum(file.stat().st_size for file in root.rglob("*") if file.is_file())
    yield "# The corpus: cases written, cases right\n"
    yield f"    {COMMAND}    # seed {seed}\n"
    found = len(scan.entries)
    yield f"- {len(cases)} cases written, {len(right)} right; {found} checkpoints in all"
    healthy = [case for case in cases if not case.fault]
    alarms = [case for case in healthy if case.id not in right]
    yield f"- {len(healthy)} of them as their writers left them, {len(alarms)} of these wrong"
    yield (
        f"- scan of the whole corpus ({size / 1e6:.0f} MB) in a fresh process:"
        f" {scan.seconds:.1f} s, {scan.cpu_seconds:.1f} s of processor time,"
        f" {scan.peak_bytes / 2**20:.0f} MiB at the peak"
    )
    yield f"- machine: {_machine()}"
    yield f"- {', '.join(_versions(cases))}\n"
    yield from _counted("layout", ((case.truth.layout, case.id in right) for case in cases))
    yield from _counted("fault", ((case.fault or "none", case.id in right) for case in cases))
    yield from _counted("written by", ((case.writer, case.id in right) for case in cases))
    if left_out:
        yield "Not written here:\n"
        yield from (f"- `{name}`: {reason}" for name, reason in left_out.items())


def _counted(head: str, rows: Iterable[tuple[str, bool]]) -> Iterator[str]:
    counts: dict[str, list[int]] = {}
    for name, is_right in rows:
        count = counts.setdefault(name, [0, 0])
        count[0] += 1
        count[1] += is_right
    yield f"| {head} | written | right |\n|---|---|---|"
    for name in sorted(counts):
        yield f"| {name} | {counts[name][0]} | {counts[name][1]} |"
    yield ""


def _versions(cases: Iterable[Case]) -> list[str]:
    names = {"sentinel": "checkpoint-sentinel", **{case.writer: case.writer for case in cases}}
    found = [f"Python {platform.python_version()}"]
    for label, name in names.items():
        try:
            found.append(f"{label} {version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _machine() -> str:
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.is_file():
        lines = information.read_text(encoding="utf-8").splitlines()
        named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        model = named[0] if named else model
    return f"{model}, {os.cpu_count()} cores, {platform.system()}"


if __name__ == "__main__":
    sys.exit(min(main(), 1))
