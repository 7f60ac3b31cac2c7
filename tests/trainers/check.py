"""Ask the trainers that are no packages: run their own savers and configuration parsers.

    python tests/trainers/check.py TRAINERS_DIR [NAME ...]

TRAINERS_DIR holds checkouts under their repositories' names. Trainers pin libraries that exclude
each other, so beside the checkout NAME an environment NAME.venv is made, unless it is there: the
libraries of this interpreter, and before them what `needs/` names. Each probe in `probes/` runs in
an interpreter of its own (two trainers have packages of one name), inside an empty directory, with
the checkout as its argument, and prints one JSON object: what the trainer's own code wrote and
accepts. It is kept with the commit in `facts/NAME.json`, which the tests read; nothing of the
trainer itself is kept. A trainer that is not there is said and left out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PROBES = HERE / "probes"
FACTS = HERE / "facts"
NEEDS = HERE / "needs"
NOT_SHARED = ("torchao",)
TIMEOUT_S = 900
LONGEST_LINE = 100


def main() -> int:
    """Probe the trainers asked for, all without a name; return how many probes failed."""
    if len(sys.argv) == 1:
        print(__doc__, file=sys.stderr)
        return 2
    directory, *names = sys.argv[1:]
    failed = 0
    for probe in sorted(PROBES.glob("[!_]*.py")):
        if names and probe.stem not in names:
            continue
        checkout = checkout_of(probe, Path(directory))
        if not checkout.is_dir():
            print(f"{probe.stem}: not checked, {checkout} is not there", file=sys.stderr)
            continue
        failed += not check(probe, checkout)
    return failed


def checkout_of(probe: Path, directory: Path) -> Path:
    """Return the checkout whose name begins the probe's docstring, before a colon."""
    name = probe.read_text(encoding="utf-8").removeprefix('"""').split(":", 1)[0]
    return (directory / name).absolute()


def interpreter_of(probe: Path, checkout: Path) -> str:
    """Return the interpreter of the environment beside a checkout, made where there is none.

    A probe that needs no libraries runs in this one.
    """
    needs = NEEDS / f"{probe.stem}.txt"
    if not needs.exists():
        return sys.executable
    place = checkout.with_name(f"{checkout.name}.venv")
    own = place / "bin" / "python"
    if not own.exists():
        print(f"{probe.stem}: making {place}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        install = ("-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps")
        subprocess.run([own, *install, "--requirement", needs], check=True)
        _share(place)
    return str(own)


def _share(place: Path) -> None:
    """Let an environment see this one's packages, but for those that older libraries stumble at."""
    shared = place / "shared"
    shared.mkdir()
    for package in Path(sysconfig.get_path("purelib")).iterdir():
        if not package.name.startswith(NOT_SHARED) and package.suffix != ".pth":
            (shared / package.name).symlink_to(package)
    paths = {"base": str(place), "platbase": str(place)}
    own = Path(sysconfig.get_path("purelib", vars=paths))
    (own / "shared.pth").write_text(f"{shared}\n")


def check(probe: Path, checkout: Path) -> bool:
    """Run one probe and keep what it prints; tell whether it could."""
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(
            [interpreter_of(probe, checkout), str(probe.resolve()), str(checkout)],
            cwd=scratch,
            env={
                **os.environ,
                "PYTHONPATH": f"{ROOT}{os.pathsep}{PROBES}",
                "PYTHONHASHSEED": "0",  # trainers write sets, in whatever order they come
            },
            stdout=subprocess.PIPE,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    if done.returncode:
        print(f"{probe.stem}: FAILED with exit code {done.returncode}", file=sys.stderr)
        return False
    said = json.loads(done.stdout.splitlines()[-1])
    facts = {"repository": said.pop("repository"), "commit": commit_of(checkout), **said}
    text = "\n".join(lines_of(facts))
    (FACTS / f"{probe.stem}.json").write_text(text + "\n", encoding="utf-8")
    print(f"{probe.stem}: facts written, commit {facts['commit'][:8]}", file=sys.stderr)
    return True


def lines_of(value: object, before: str = "", after: str = "") -> Iterator[str]:
    """Yield JSON by lines as long as they may be, so that a change shows where it is."""
    whole = before + json.dumps(value, sort_keys=True, ensure_ascii=False) + after
    if len(whole) <= LONGEST_LINE or not isinstance(value, dict | list) or not value:
        yield whole
        return
    indent = " " * (len(before) - len(before.lstrip(" ")) + 1)
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    yield before + opening
    items = sorted(value.items()) if isinstance(value, dict) else [(None, one) for one in value]
    for at, (key, inner) in enumerate(items, 1):
        name = "" if key is None else json.dumps(key, ensure_ascii=False) + ": "
        yield from lines_of(inner, indent + name, "," if at < len(items) else "")
    yield indent[1:] + closing + after


def commit_of(checkout: Path) -> str:
    """Return the commit a checkout is at."""
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
