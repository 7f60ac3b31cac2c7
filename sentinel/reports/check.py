"""A configuration before step 1 as text and as JSON: what was understood, and what is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sentinel.checkpoint import path_text
from sentinel.health.plain import plain
from sentinel.preflight import Checked
from sentinel.reports.entries import ScanEntry
from sentinel.reports.findings import finding_block, note
from sentinel.reports.json_report import (
    SCHEMA,
    checkpoint_object,
    finding_object,
    skipped_objects,
)
from sentinel.reports.lines import Safe, by_reason, finding_line
from sentinel.reports.terminal import render_scan
from sentinel.reports.words import STYLE_OF_LEVEL, path_words

if TYPE_CHECKING:
    from rich.console import Console

_VERDICT_WIDTH = len("unreadable")
_GAP = 2

_LINES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "precision": MappingProxyType(
            {
                "precision.adapter": "adapter {}",
                "precision.mixed": "autocast {}",
                "precision.training": "computed in {}",
                "base.dtype": "base loaded in {}",
                "precision.output": "saved in {}",
            }
        ),
        "optimizer": MappingProxyType(
            {
                "optimizer.name": "{}",
                "optimizer.learning_rate": "learning rate {}",
                "optimizer.unet_learning_rate": "unet {}",
                "optimizer.text_encoder_learning_rate": "text encoder {}",
                "optimizer.args.d0": "d0 {}",
                "optimizer.args.scale_parameter": "scale_parameter {}",
                "optimizer.args.relative_step": "relative_step {}",
                "scheduler.name": "{} schedule",
            }
        ),
        "adapter": MappingProxyType(
            {
                "adapter.method": "{}",
                "adapter.rank": "rank {}",
                "adapter.alpha": "alpha {}",
                "adapter.modules_to_save": "trained whole {}",
            }
        ),
        "base": MappingProxyType({"base.path": "{}", "base.quantization": "quantisation {}"}),
        "checkpoints": MappingProxyType(
            {
                "training.save_steps": "each {} steps",
                "training.save_total_limit": "{} kept",
                "resume.path": "resumes from {}",
                "resume.adapter": "begins from {}",
            }
        ),
        "device": MappingProxyType({"device.name": "{}", "device.bf16": "bf16 {}"}),
    }
)
"""What is told of a configuration: a line's name, its settings and how each is said."""


def understood(checked: Checked) -> tuple[tuple[str, str], ...]:
    """Return what was understood of a configuration, in lines; what it does not tell is left out.

    What sets precision is told also where nothing is known: `unknown` is no good sign.
    """
    lines: list[tuple[str, str]] = []
    for name, parts in _LINES.items():
        told = [
            words.format(_value(checked.settings[setting]))
            for setting, words in parts.items()
            if setting in checked.settings
        ]
        if told:
            lines.append((name, ", ".join(told)))
        elif name in {"precision", "optimizer"}:
            lines.append((name, "not told"))
    return tuple(lines)


def render_check(
    checked: Checked, console: Console, base_dir: Path, *, verbose: bool = False
) -> None:
    """Print what was understood of a configuration and what the rules say of it.

    Then comes the adapter that the training begins from, as a scan tells it. ``verbose`` lists
    the rules that could not be asked.
    """
    if console.is_terminal:
        _render_block(checked, console, base_dir, verbose=verbose)
    else:
        _render_line(checked, console, base_dir, verbose=verbose)
    if checked.start is not None:
        entry = ScanEntry(checked.start.checkpoint, checked.start.verdict)
        render_scan([entry], console, base_dir, verbose=verbose)
    elif checked.verdict.not_evaluated and not verbose:
        count = len(checked.verdict.not_evaluated)
        text = f"{count} rules want a checkpoint or a setting not told here; --verbose lists them"
        console.print(Text(text, "dim"), soft_wrap=not console.is_terminal)


def check_to_json(checked: Checked) -> str:
    """Return the same as one JSON object; keys are only added within its schema."""
    config = checked.config
    start = checked.start
    found = {
        "schema": SCHEMA,
        "path": path_text(config.path),
        "form": config.form,
        "trainer": config.trainer,
        "settings": dict(config.settings),
        "machine": {
            name: value for name, value in checked.settings.items() if name not in config.settings
        },
        "verdict": checked.verdict.level,
        "reason": checked.verdict.reason,
        "findings": [finding_object(finding) for finding in checked.verdict.findings],
        "not_evaluated": skipped_objects(checked.verdict),
        "start": checkpoint_object(ScanEntry(start.checkpoint, start.verdict)) if start else None,
        "notes": checked.notes,
    }
    return json.dumps(plain(found), indent=2, allow_nan=False)


def _render_block(checked: Checked, console: Console, base_dir: Path, *, verbose: bool) -> None:
    safe = Safe(console.encoding)
    level = checked.verdict.level
    head = Table.grid(padding=(0, _GAP, 0, 0))
    head.add_column(width=_VERDICT_WIDTH, no_wrap=True)
    head.add_column(overflow="fold")
    head.add_column(overflow="fold")
    head.add_row(
        Text(level, STYLE_OF_LEVEL[level]),
        Text(safe(path_words(checked.config.path, base_dir)), "bold"),
        Text(safe(_origin(checked)), "dim"),
    )
    console.print(head)
    facts = Table.grid(padding=(0, _GAP, 0, 0))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, said in understood(checked):
        facts.add_row(name, Text(safe(said)))
    console.print(Padding(facts, (0, 0, 0, _GAP)))
    for text in checked.notes:
        console.print(note(safe(text)))
    for finding in checked.verdict.findings:
        console.print(finding_block(finding, safe, verbose=verbose))
    if verbose:
        for reason, rules in by_reason(checked.verdict.not_evaluated):
            console.print(note(safe(f"not evaluated, {reason}: {', '.join(rules)}")))
    console.print()


def _render_line(checked: Checked, console: Console, base_dir: Path, *, verbose: bool) -> None:
    safe = Safe(console.encoding)
    level = checked.verdict.level
    line = Text(f"{level:<{_VERDICT_WIDTH}}  ", STYLE_OF_LEVEL[level])
    line.append(safe(path_words(checked.config.path, base_dir)), "default")
    parts = list(_line_parts(checked, verbose=verbose))
    line.append(safe("".join(f" | {part}" for part in parts)), "default")
    console.print(line, soft_wrap=True)


def _line_parts(checked: Checked, *, verbose: bool) -> Iterator[str]:
    yield _origin(checked)
    yield "; ".join(f"{name}: {said}" for name, said in understood(checked))
    yield from checked.notes
    yield from map(finding_line, checked.verdict.findings)
    if verbose:
        for reason, rules in by_reason(checked.verdict.not_evaluated):
            yield f"not evaluated, {reason}: {', '.join(rules)}"


def _origin(checked: Checked) -> str:
    return f"{checked.config.trainer}, {checked.config.form}"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
