"""What happened to a run, in order: one line live, or a whole run read back from the log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sentinel.health.rows import LOSS, CheckpointRow, EventRow
from sentinel.reports.words import STYLE_OF_LEVEL, TEXT_WIDTH, moment_words, path_words, shown

if TYPE_CHECKING:
    from rich.console import Console

LEAST_FIXED, MOST_FIXED = 1e-3, 1e4
"""Losses between these are written with four decimals, others in the shortest form."""

_EVENT_STYLE = "cyan"
_WORD_WIDTH = len("unreadable")


@dataclass(frozen=True, slots=True)
class Moment:
    """One line of a run's story: a verdict, or a plan, an action, an outcome.

    ``word`` is the verdict or the kind of event, ``says`` the sentence.
    """

    at: datetime
    attempt: int
    word: str
    style: str
    step: int | None
    path: str | None
    loss: str | None
    says: str


def line_for(
    event: CheckpointRow | EventRow,
    *,
    base_dir: Path | None = None,
    zone: tzinfo | None = None,
    encoding: str = "utf-8",
) -> Text:
    """Return one line for something that just happened: time, word, path, step, sentence.

    Print it with ``soft_wrap=True``, so that a line stays a line. ``base_dir`` shortens paths,
    ``zone`` is the clock to show (None: the local one).
    """
    moment = _of_checkpoint(event) if isinstance(event, CheckpointRow) else _of_event(event)
    return _line(moment, base_dir, zone, encoding)


def block_for(
    event: CheckpointRow | EventRow,
    *,
    base_dir: Path | None = None,
    zone: tzinfo | None = None,
    encoding: str = "utf-8",
) -> Table:
    """Return the same laid out for a screen: what does not fit goes on below where it began."""
    moment = _of_checkpoint(event) if isinstance(event, CheckpointRow) else _of_event(event)
    block = Table.grid(padding=(0, 2, 0, 0))
    block.add_column(style="dim", no_wrap=True)
    block.add_column(width=_WORD_WIDTH, no_wrap=True)
    block.add_column(overflow="fold", max_width=TEXT_WIDTH)
    parts = ("  ".join(_known(moment, base_dir)), moment.says)
    told = "\n".join(shown(part, encoding) for part in parts if part)
    word = Text(shown(moment.word, encoding), moment.style)
    block.add_row(Text(moment_words(moment.at, zone)), word, Text(told))
    return block


def lines_below(event: EventRow) -> Iterator[Text]:
    """Yield what belongs under an event's line: the difference to a file that was changed."""
    diff = event.detail.get("diff")
    yield from diff_lines(diff if isinstance(diff, str) else "")


def diff_lines(diff: str) -> Iterator[Text]:
    """Yield the lines of a difference, indented and coloured."""
    for line in diff.splitlines():
        yield Text.assemble("    ", (shown(line), _STYLE_OF_CHANGE.get(line[:1], "")))


_STYLE_OF_CHANGE: Mapping[str, str] = {"+": "green", "-": "red", "@": "cyan"}


def render_log(
    checkpoints: Sequence[CheckpointRow],
    events: Sequence[EventRow],
    console: Console,
    *,
    base_dir: Path | None = None,
    zone: tzinfo | None = None,
) -> None:
    """Print what happened to one run, attempt by attempt.

    Findings are told with their checkpoint; those before step 1, and other events, stand where they
    happened. On a terminal it is a table an attempt, in a pipe one line a row.
    """
    moments = story(checkpoints, events)
    if not moments:
        console.print("the health log holds nothing of this run", soft_wrap=True)
    elif console.is_terminal:
        _print_tables(moments, console, base_dir, zone)
    else:
        for moment in moments:
            line = _line(moment, base_dir, zone, console.encoding, date=True)
            line = Text(f"attempt {moment.attempt}  ").append_text(line)
            console.print(line, soft_wrap=True)


def story(checkpoints: Sequence[CheckpointRow], events: Sequence[EventRow]) -> list[Moment]:
    """Return the story in order: attempt, then step and seq, events at their time between."""
    rules: dict[str | None, list[str]] = {}
    for event in events:
        if event.kind == "finding" and event.rule:
            rules.setdefault(event.checkpoint_id, []).append(event.rule)
    told = sorted(
        (
            _of_event(event)
            for event in events
            if event.kind != "finding" or not event.checkpoint_id
        ),
        key=lambda moment: (moment.attempt, moment.at),
    )
    moments: list[Moment] = []
    for row in sorted(checkpoints, key=_place):
        moment = _of_checkpoint(row, rules.get(row.checkpoint_id, []))
        # Verdicts keep the order of steps; an event comes in before the first later verdict.
        while told and (told[0].attempt, told[0].at) < (moment.attempt, moment.at):
            moments.append(told.pop(0))
        moments.append(moment)
    return moments + told


def _place(row: CheckpointRow) -> tuple[int, int, int]:
    return (row.attempt, -1 if row.step is None else row.step, row.seq)


def _of_checkpoint(row: CheckpointRow, rules: Sequence[str] = ()) -> Moment:
    reason = row.reason or ""
    return Moment(
        at=row.judged_at,
        attempt=row.attempt,
        word=row.verdict,
        style=STYLE_OF_LEVEL.get(row.verdict, ""),
        step=row.step,
        path=row.path,
        loss=_loss_words(row.settings.get(LOSS)),
        says=f"{', '.join(rules)}: {reason}" if rules and reason else reason,
    )


def _of_event(event: EventRow) -> Moment:
    says = f"{event.rule}: {event.message}" if event.rule else event.message
    return Moment(event.at, event.attempt, event.kind, _EVENT_STYLE, None, None, None, says)


def _loss_words(loss: object) -> str | None:
    if isinstance(loss, float | int):
        return f"{loss:.4f}" if LEAST_FIXED <= abs(loss) < MOST_FIXED else f"{loss:.3g}"
    return loss if isinstance(loss, str) else None


def _line(
    moment: Moment,
    base_dir: Path | None,
    zone: tzinfo | None,
    encoding: str,
    *,
    date: bool = False,
) -> Text:
    line = Text(moment_words(moment.at, zone, date=date), "dim")
    line.append(f"  {shown(moment.word, encoding):<{_WORD_WIDTH}}  ", f"not dim {moment.style}")
    told = "  ".join([*_known(moment, base_dir), moment.says])
    return line.append(shown(told.rstrip(), encoding), "not dim")


def _print_tables(
    moments: Sequence[Moment], console: Console, base_dir: Path | None, zone: tzinfo | None
) -> None:
    """Print a table an attempt under its own line, columns of equal width throughout."""
    steps = max(len(str(moment.step or "")) for moment in moments)
    losses = max(len(moment.loss or "") for moment in moments)
    for attempt, group in groupby(moments, key=lambda moment: moment.attempt):
        rows = list(group)
        title = Text(f"attempt {attempt}  ", "bold")
        title.append(moment_words(rows[0].at, zone, date=True), "not bold dim")
        if rows[0].word == "attempt":
            title.append(f"  {shown(rows.pop(0).says, console.encoding)}", "not bold")
        console.print(title, soft_wrap=True)
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(width=_WORD_WIDTH, no_wrap=True)
        table.add_column(overflow="fold", max_width=TEXT_WIDTH)
        for moment in rows:
            known = "  ".join(_known(moment, base_dir, steps=steps, losses=losses))
            told = "\n".join(shown(part, console.encoding) for part in (known, moment.says) if part)
            word = Text(shown(moment.word, console.encoding), moment.style)
            table.add_row(Text(moment_words(moment.at, zone)), word, Text(told))
        console.print(Padding(table, (0, 0, 1, 2)))


def _known(
    moment: Moment, base_dir: Path | None, *, steps: int = 0, losses: int = 0
) -> Iterator[str]:
    """Yield what is known of a checkpoint, numbers padded to so many characters."""
    if moment.path is None:
        return
    yield f"step {'?' if moment.step is None else moment.step:<{steps}}"
    if losses or moment.loss is not None:
        yield f"loss {moment.loss or '-':<{losses}}"
    yield path_words(Path(moment.path), base_dir) if base_dir else moment.path
