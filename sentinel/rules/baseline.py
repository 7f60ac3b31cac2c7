"""Findings somebody looked at and accepted: they are told, but no longer count.

A baseline is a JSON file that `sentinel scan --write-baseline` writes. A finding is accepted when
the same rule spoke of the same checkpoint about at least as many tensors: a fault that spreads is
a new one. Paths are kept relative to the file, so that it can lie in a repository beside the runs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from sentinel.checkpoint import path_text
from sentinel.errors import ConfigError
from sentinel.remote.paths import is_remote
from sentinel.storage import atomic_write
from sentinel.verdict import Finding

SCHEMA = 1
ACCEPTED = " (accepted in the baseline)"

Key = tuple[str, str]
"""A checkpoint's path relative to the baseline, and a rule's id."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """Accepted findings: to how many tensors each may apply."""

    file: Path
    accepted: Mapping[Key, int]

    def applied(self, path: Path, findings: Iterable[Finding]) -> tuple[Finding, ...]:
        """Return the findings of a checkpoint, the accepted ones as information only."""
        return tuple(
            replace(found, severity="info", message=found.message + ACCEPTED)
            if self.accepted.get(_key(self.file, path, found), -1) >= found.tensor_count
            else found
            for found in findings
        )


def read_baseline(file: Path) -> Baseline:
    """Read a baseline; raises ConfigError when it is not one."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["schema"] != SCHEMA:
            raise _unusable(
                file, f"is of version {content['schema']!r}, this sentinel reads {SCHEMA}"
            )
        accepted = {
            (str(entry["path"]), str(entry["rule"])): int(entry["tensor_count"])
            for entry in content["accepted"]
        }
    except OSError as error:
        raise _unusable(file, f"cannot be read ({error.strerror})") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _unusable(file, "is no baseline of sentinel") from error
    return Baseline(file, MappingProxyType(accepted))


def write_baseline(file: Path, found: Iterable[tuple[Path, Iterable[Finding]]]) -> int:
    """Write every finding worse than information as accepted; return how many there are.

    ``found`` gives the findings by the checkpoint's path.
    """
    entries = [
        {"path": path, "rule": rule, "tensor_count": finding.tensor_count}
        for checkpoint, findings in found
        for finding in findings
        if finding.severity != "info"
        for path, rule in (_key(file, checkpoint, finding),)
    ]
    entries.sort(key=lambda entry: (str(entry["path"]), str(entry["rule"])))
    text = json.dumps({"schema": SCHEMA, "accepted": entries}, indent=1, ensure_ascii=False)
    atomic_write(file, (text + "\n").encode())
    return len(entries)


def _key(file: Path, checkpoint: Path, finding: Finding) -> Key:
    if is_remote(checkpoint):
        return path_text(checkpoint), finding.rule
    relative = os.path.relpath(os.path.abspath(checkpoint), os.path.abspath(file.parent))  # noqa: PTH100 - pathlib has no `..` up to another branch
    return path_text(relative.replace(os.sep, "/")), finding.rule


def _unusable(file: Path, fact: str) -> ConfigError:
    return ConfigError(
        f"baseline '{path_text(file)}'", fact=fact, todo="write it with --write-baseline"
    )
