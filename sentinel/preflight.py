"""Before step 1: what the rules say of a training that has not begun.

A configuration stands in the table `checkpoint` as a row of layout `configuration`, with this
machine's device and versions where it does not tell its own; `config` has all its settings. The
adapter that it begins from is judged like any other checkpoint, and is its past.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from sentinel.checkpoint import Base, path_text
from sentinel.errors import ConfigError, InputError
from sentinel.flow import Judgement, past_after
from sentinel.formats.base import read_base
from sentinel.formats.configs.reader import ADAPTER, LATEST, OUTPUT, RESUME, TrainingConfig
from sentinel.formats.configs.registry import read_config
from sentinel.formats.discovery import place_in_run
from sentinel.formats.opening import discover
from sentinel.formats.settings import Setting
from sentinel.rules.evaluate import evaluate
from sentinel.rules.past import Past
from sentinel.rules.sql import source_of
from sentinel.scanning import scan
from sentinel.stats.table import base_table, checkpoint_row_table, config_table
from sentinel.verdict import Finding, Verdict, worst_level

if TYPE_CHECKING:
    import pyarrow as pa

    from sentinel.rules.rule import Rule

CONFIGURATION = "configuration"
MACHINE = "machine"
"""Layouts of rows of the table `checkpoint` that are no checkpoints."""

_RISKY: Mapping[str, Setting] = MappingProxyType(
    {
        "adapter.method": "lora",
        "base.dtype": "fp16",
        "base.quantization": "int8-quanto",
        "precision.mixed": "fp16",
        "resume.path": LATEST,
        "training.gradient_accumulation_steps": 2,
        "training.processes": 2,
    }
)
"""What makes faults of versions matter."""

_TRUE = "true"
_FOREIGN = ("://", "$", "%", "{")


@dataclass(frozen=True, slots=True)
class Checked:
    """A configuration and what the rules say of it.

    ``settings`` are the configuration's and, below them, the machine's. ``start`` is what the
    training begins from, None when it begins anew or that is not here; ``notes`` say why.
    """

    config: TrainingConfig
    settings: Mapping[str, Setting]
    verdict: Verdict
    start: Judgement | None = None
    notes: tuple[str, ...] = ()


def check(
    path: Path,
    *,
    rules: Sequence[Rule],
    machine: Mapping[str, Setting] = MappingProxyType({}),
    base: Path | None = None,
) -> Checked:
    """Read a trainer's configuration and ask the rules about it.

    ``machine`` are the settings `device.*` and `versions.*` of where it would run. ``base`` is the
    model under the adapter, against which the adapter it begins from is held. Raises InputError
    when the configuration cannot be read or is no trainer's that is known here.
    """
    return check_config(read_config(path), rules=rules, machine=machine, base=base)


def check_config(
    config: TrainingConfig,
    *,
    rules: Sequence[Rule],
    machine: Mapping[str, Setting] = MappingProxyType({}),
    base: Path | None = None,
) -> Checked:
    """Ask the rules about a configuration that was read; relative paths in it lie beside it."""
    settings = {**machine, **config.settings}
    known_base = read_base(base) if base is not None else _base_named(config)
    start, note = _start(config, rules, base)
    past = past_after(start) if start is not None else ()
    row = {"path": path_text(config.path), "layout": CONFIGURATION, "trainer": config.trainer}
    verdict = _asked(row, settings, rules, base=known_base, past=past)
    notes = (*config.notes, note) if note else config.notes
    return Checked(config, settings, verdict, start, notes)


def check_machine(
    settings: Mapping[str, Setting], *, rules: Sequence[Rule]
) -> tuple[Verdict, tuple[Finding, ...]]:
    """Ask the rules about this machine alone: its device and the versions installed.

    Returns the verdict, and what the rules about versions would say of trainings in fp16, over
    several processes, on a packed base, beyond that.
    """
    verdict = _asked({"layout": MACHINE}, settings, rules)
    about_versions = [rule for rule in rules if "versions" in source_of(rule)]
    known = {found.rule: found.message for found in verdict.findings}
    row = {"layout": CONFIGURATION}
    risky = {
        name: value
        for name, value in _RISKY.items()
        if name != "base.quantization" or "versions.optimum-quanto" in settings
    }
    would = _asked(row, {**settings, **risky}, about_versions).findings
    return verdict, tuple(found for found in would if known.get(found.rule) != found.message)


def _asked(
    row: Mapping[str, object],
    settings: Mapping[str, Setting],
    rules: Sequence[Rule],
    *,
    base: Base | None = None,
    past: Past = (),
) -> Verdict:
    tables: dict[str, pa.Table] = {
        "checkpoint": checkpoint_row_table(row, settings),
        "config": config_table(settings),
    }
    if base is not None:
        tables["base"] = base_table(base)
    evaluation = evaluate(rules, tables, past)
    return Verdict(
        level=worst_level(found.severity for found in evaluation.findings),
        usable=(),
        findings=evaluation.findings,
        not_evaluated=evaluation.not_evaluated,
    )


def _base_named(config: TrainingConfig) -> Base | None:
    """Return the base that the configuration names by path, None when it is not there."""
    path = _path_here(str(config.settings.get("base.path", "")), config.path.parent)
    if path is None:
        return None
    try:
        return read_base(path)
    except (InputError, ConfigError):
        # The base is not what was asked about; rules that need it say that it is missing.
        return None


def _start(
    config: TrainingConfig, rules: Sequence[Rule], base: Path | None
) -> tuple[Judgement | None, str]:
    """Judge what the training begins from; return it, or why it is not known."""
    named = str(config.settings.get(RESUME) or config.settings.get(ADAPTER) or "")
    if not named:
        return None, ""
    wanted = named
    if named.lower() in {LATEST, _TRUE}:
        wanted = str(config.settings.get(OUTPUT, ""))
        if not wanted:
            return None, ""
    path = _path_here(wanted, config.path.parent)
    if path is None:
        return None, "" if wanted != named else f"'{named}', from which it begins, is not here"
    try:
        found = list(discover(path))
    except (InputError, ConfigError) as error:
        return None, str(error)
    if not found:
        return None, "" if wanted != named else f"'{named}', from which it begins, is no checkpoint"
    newest = max(found, key=place_in_run)
    judgements = scan(newest.path, base=base, rules=rules)
    return next(iter(judgements), None), ""


def _path_here(text: str, directory: Path) -> Path | None:
    """Return the path that a configuration names, from here or from beside the configuration.

    None when it is not there, or is an address, or holds a variable.
    """
    if not text or any(mark in text for mark in _FOREIGN) or "\0" in text:
        return None
    spelled = os.path.expanduser(text)  # noqa: PTH111 - never raises
    for place in (Path(spelled), directory / spelled):
        if os.path.lexists(place):
            return place
    return None
