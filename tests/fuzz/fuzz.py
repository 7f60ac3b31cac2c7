"""Fuzz one target with atheris, or all: ``python fuzz.py NAME|all [--runs N] [--seconds S]``.

Only sentinel's readers are instrumented. A finding ends the run with its traceback, and the bytes
lie in the working directory under the name that libFuzzer prints; `--again FILE` reads them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["sentinel.formats"]):
    from targets import TARGETS

from sentinel.errors import InputError

LONGEST_BYTES = 4096
MOST_MEGABYTES = 1024


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("name", choices=[*TARGETS, "all"])
    asked.add_argument("--runs", type=int, default=20_000)
    asked.add_argument("--seconds", type=int, default=600)
    asked.add_argument("--again", type=Path)
    options = asked.parse_args()
    if options.name == "all":
        # libFuzzer ends its process, so each target has one of its own.
        sizes = ["--runs", str(options.runs), "--seconds", str(options.seconds)]
        for name in TARGETS:
            print(f"fuzzing {name}", flush=True)
            subprocess.run([sys.executable, __file__, name, *sizes], check=True)
        return
    target = TARGETS[options.name]
    with tempfile.TemporaryDirectory() as where:
        root, corpus = Path(where) / "files", Path(where) / "corpus"
        root.mkdir()
        corpus.mkdir()
        for at, seed in enumerate(target.seeds()):
            (corpus / str(at)).write_bytes(seed)

        def one(raw: bytes) -> None:
            try:
                target.run(root, raw)
            except InputError:
                return

        if options.again:
            one(options.again.read_bytes())
            return
        libfuzzer = [
            f"-runs={options.runs}",
            f"-max_total_time={options.seconds}",
            f"-max_len={LONGEST_BYTES}",
            f"-rss_limit_mb={MOST_MEGABYTES}",
            "-timeout=20",
            "-verbosity=0",
        ]
        atheris.Setup([sys.argv[0], *libfuzzer, str(corpus)], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
