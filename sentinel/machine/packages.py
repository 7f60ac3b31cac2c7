"""Which versions of training libraries are installed, asked of their metadata, never imported."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path, PurePath

from sentinel.errors import ConfigError

LIBRARIES = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "diffusers",
    "bitsandbytes",
    "optimum-quanto",
    "torchao",
    "safetensors",
    "lycoris-lora",
    "prodigyopt",
    "prodigy-plus-schedule-free",
    "trl",
    "deepspeed",
    "datasets",
    "numpy",
    "checkpoint-sentinel",
)
"""Distributions that trainings rest on, and this one."""

_TIMEOUT_S = 60
_LONGEST_LINE = 4096
_PROGRAM = """
import json, sys
from importlib import metadata
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
print(json.dumps({"python": sys.version.split()[0], "found": found}))
"""


def versions_here(names: Iterable[str] = LIBRARIES) -> dict[str, str]:
    """Return the versions of those that are installed beside this program."""
    found: dict[str, str] = {}
    for name in names:
        try:
            # A distribution whose metadata is broken has no version (None) instead of an error.
            version: str | None = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        if version:
            found[name] = version
    return found


def python_here() -> str:
    """Return the version of this interpreter."""
    return sys.version.split()[0]


def versions_of(python: Path, names: Iterable[str] = LIBRARIES) -> tuple[str, dict[str, str]]:
    """Return another interpreter's version and what is installed for it.

    It runs a few lines that read metadata and import no library. Raises ConfigError when it
    cannot be started or does not answer.
    """
    try:
        done = subprocess.run(  # noqa: S603 - the interpreter that the user named
            [str(python.absolute()), "-c", _PROGRAM, *names],
            cwd=python.absolute().parent,  # where no file of a project hides the standard library
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
        answer = json.loads(done.stdout)
        found = {name: str(version) for name, version in answer["found"].items() if version}
        return str(answer["python"]), found
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"interpreter '{python}'",
            fact=f"did not tell what is installed for it ({type(error).__name__})",
            todo="give the `python` of the trainer's environment",
        ) from error


def interpreter_of(command: Sequence[str], directory: Path) -> Path | None:
    """Return the interpreter that a command runs in: itself, or that of a script's first line.

    None where that cannot be told: a shell's script, a launcher that is no Python.
    """
    program = _found(command[0], directory) if command else None
    if program is None or _is_python(program):
        return program
    try:
        with program.open("rb") as file:
            first = file.readline(_LONGEST_LINE)
    except OSError:
        return None
    words = first.removeprefix(b"#!").decode(errors="replace").split()
    if not first.startswith(b"#!") or not words:
        return None
    named = words[1:2] if PurePath(words[0]).name == "env" else words[:1]
    interpreter = _found(named[0], directory) if named else None
    return interpreter if interpreter is not None and _is_python(interpreter) else None


def _found(word: str, directory: Path) -> Path | None:
    where = str(directory / word) if PurePath(word).name != word else word
    found = shutil.which(where)
    return None if found is None else Path(found)


def _is_python(program: Path) -> bool:
    return program.name.removesuffix(".exe").startswith("python")


def version_settings(found: dict[str, str]) -> dict[str, str]:
    """Return versions as settings `versions.*`."""
    return {f"versions.{name}": version for name, version in found.items()}
