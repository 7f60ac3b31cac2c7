"""Asking all rules about one measured LoRA, directly against in the database; and many files."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from files import write_lora
from paired import Taken, command, compare, here
from rows import Row
from whole_commands import SENTINEL

from sentinel import flow
from sentinel.rules.load import load_rules

if TYPE_CHECKING:
    from collections.abc import Iterator


def rows(place: Path, rounds: int, checkpoints: int) -> Iterator[Row]:
    rules = load_rules()
    for modules in (4, 250):
        lora = place / f"{modules}.safetensors"
        write_lora(lora, modules=modules, rank=8, width=256)
        inspected = flow.inspect(lora, digest=True)
        past = flow.past_after(flow.conclude(inspected, rules=rules))
        directly = partial(flow.conclude, inspected, rules=rules, past=past)
        asked = partial(_in_database, inspected, rules, past)
        found = compare(here(directly), here(asked), rounds=rounds)
        yield Row(f"all rules on a LoRA of {modules} modules, against DuckDB alone", found, "≥ 10")
        lora.unlink()
    yield _growth(place, checkpoints)


def _in_database(inspected: flow.Inspected, rules: object, past: object) -> None:
    whole = flow.evaluate
    try:
        flow.evaluate = lambda *given: whole(*given, direct=False)
        flow.conclude(inspected, rules=rules, past=past)
    finally:
        flow.evaluate = whole


def _growth(place: Path, checkpoints: int) -> Row:
    """Ten times the checkpoints, each with the one before it as its history."""
    times = []
    for count in (checkpoints // 10, checkpoints):
        run = place / f"run-{count}"
        run.mkdir()
        for step in range(count):
            write_lora(run / f"a-{step:06}.safetensors", modules=1, rank=1, width=8, seed=step)
        # The command, which collects garbage more rarely than a program by default: with so many
        # objects alive that takes as long as all else.
        taken = command([*SENTINEL, "scan", str(run), "--format", "json"])()
        times.append(Taken(taken.wall_s / count, taken.cpu_s / count))
    few, many = times
    found = compare(lambda: many, lambda: few, rounds=2)
    each = f"{many.cpu_s * 1e3:.1f} ms of processor time each"
    what = f"`sentinel scan`, a checkpoint of {checkpoints}, against one of {checkpoints // 10}"
    return Row(what, found, "0.9 to 1.1", each)
