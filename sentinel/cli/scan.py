"""`sentinel scan`: judge what lies there now."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

import click

from sentinel.cli.formats import Judged, formatted
from sentinel.cli.options import (
    ANY_PATH,
    EXISTING,
    PLACE,
    baseline_of,
    judging,
    rules_of,
    settled_verdicts,
)
from sentinel.cli.output import (
    OutputClosed,
    complain,
    console,
    is_tty,
    on_screen,
    plain_encoding,
    say,
)
from sentinel.verdict import Level

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console

    from sentinel.reports.entries import ScanEntry
    from sentinel.reports.subjects import Subject
    from sentinel.spreading import Spread
    from sentinel.stats.quick import Depth

_QUIET_BYTES = 64 * 1024 * 1024
"""Less than this is read before a progress bar could be looked at."""


@click.command()
@click.argument("paths", nargs=-1, required=True, type=PLACE)
@judging
@formatted
@click.option(
    "--fail-on",
    type=click.Choice(["suspect", "faulty"]),
    help="The verdict from which the exit code is 1.  [default: faulty]",
)
@click.option("--log", type=ANY_PATH, help="Also write what was seen to this health log.")
@click.option("--baseline", type=EXISTING, help="Findings accepted there do not count.")
@click.option(
    "--write-baseline", type=ANY_PATH, help="Write what is found to this file, as accepted."
)
@click.option(
    "--quick", is_flag=True, help="Read what decides, screen the rest for NaN, Inf and zeros."
)
@click.option("--headers", is_flag=True, help="Read no values: headers, settings, logs alone.")
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    help="Measure in threads here, or on a Ray cluster.",
)
@click.option("--jobs", type=click.IntRange(1), default=None, help="Threads.  [default: the cores]")
@click.option("--verbose", "-v", is_flag=True, help="List the rules that could not be asked.")
@click.option(
    "--quiet", "-q", is_flag=True, help="Text: only what is at or above --fail-on or unreadable."
)
def command(
    paths: tuple[Path, ...],
    base: Path | None,
    rule_paths: tuple[Path, ...],
    config_path: Path | None,
    form: str,
    also: tuple[tuple[str, Path], ...],
    fail_on: str | None,
    log: Path | None,
    baseline: Path | None,
    write_baseline: Path | None,
    quick: bool,
    headers: bool,
    engine: str,
    jobs: int | None,
    verbose: bool,
    quiet: bool,
) -> int:
    """Judge every checkpoint at or below PATHS.

    Within one run the earlier checkpoints are the history of the later ones. Nothing is
    written, unless --log, --also or --write-baseline asks for it.

    PATHS may be addresses: s3://, gs://, az://, hf://, https://. With --quick or
    --headers less is read; the output says what was skipped, and rules that wanted
    it are not evaluated. "healthy" then only says that nothing was found.

    \b
    Exit codes: 0 nothing at or above --fail-on, 1 something is, 2 something
    could not be read or the call was wrong (1 wins over 2; JSON tells both).

    \b
    Examples:
      sentinel scan out/
      sentinel scan lora.safetensors --format json
      sentinel scan out/ --format github --also sarif=sentinel.sarif
      sentinel scan out/ --quiet --fail-on suspect
      sentinel scan out/ --base models/llama --fail-on suspect
      sentinel scan s3://bucket/run/ --headers
      sentinel scan out/ --write-baseline accepted.json
    """
    from sentinel.engines.local import cores
    from sentinel.reports.entries import entry_of
    from sentinel.scanning import judged

    depth: Depth = "headers" if headers else "quick" if quick else "whole"
    if quick and headers:
        raise click.UsageError("--quick and --headers exclude each other")
    if depth != "whole" and log is not None:
        raise click.UsageError(
            f"--{depth} cannot go into a log: whoever reads it would take it for a whole scan"
        )
    config = settled_verdicts(config_path)
    rules = rules_of(config, rule_paths)
    bar = _bar() if form == "text" and not quiet else None
    with bar or nullcontext():
        judgements = judged(
            *paths,
            base=base,
            rules=rules,
            jobs=jobs or cores(),
            settle_s=config.settle_s,
            baseline=baseline_of(baseline or config.baseline),
            progress=bar,
            depth=depth,
            spread=_spread(log) if engine == "ray" else None,
        )
        # Each is let go as soon as it is told: what was measured of all would fill the memory.
        if log is not None:
            from sentinel.daemon.logged_scan import log_scan

            entries = log_scan(judgements, log, kept=engine == "ray")
        else:
            entries = tuple(map(entry_of, judgements))
    if write_baseline is not None:
        from sentinel.rules.baseline import write_baseline as write

        found = ((one.checkpoint.path, one.verdict.findings) for one in entries)
        complain(f"{write(write_baseline, found)} findings are accepted in '{write_baseline}' now")
    if not entries:
        complain("no checkpoint was found there, so nothing is known to be good")
    fails_from = fail_on or config.fail_on
    code = exit_code(entries, fails_from)
    forms = Judged(
        partial(_subjects, entries),
        partial(_json, entries),
        rules,
        fails_from,
        code,
    )
    forms.write(also)
    # A reader that went away, as `head -1` does, does not change what was found.
    with suppress(OutputClosed):
        if form == "text":
            told = _alarming(entries, fails_from) if quiet else entries
            _print(told, verbose=verbose, brief=quiet)
        else:
            say(forms.in_form(form))
    return code


def _subjects(entries: tuple[ScanEntry, ...]) -> Sequence[Subject]:
    from sentinel.reports.subjects import subjects_of_scan

    return subjects_of_scan(entries)


def _json(entries: tuple[ScanEntry, ...]) -> str:
    from sentinel.reports.entries import ScanReport
    from sentinel.reports.json_report import scan_to_json

    return scan_to_json(ScanReport(entries))


def _alarming(entries: Sequence[ScanEntry], fails_from: str) -> list[ScanEntry]:
    from sentinel.reports.subjects import alarms

    return [one for one in entries if alarms(one.verdict.level, fails_from)]


def _print(entries: Sequence[ScanEntry], *, verbose: bool, brief: bool) -> None:
    encoding = plain_encoding()
    if encoding is not None:
        from sentinel.reports.lines import scan_text

        say(scan_text(entries, encoding, Path.cwd(), verbose=verbose, brief=brief))
        return
    from sentinel.reports.terminal import render_scan

    render_scan(entries, console(), Path.cwd(), verbose=verbose, brief=brief)


def _bar() -> _Bar | None:
    """Return a progress bar where there is a screen for it."""
    if not is_tty(error=True):
        return None
    terminal = console(error=True)
    return _Bar(terminal) if on_screen(terminal) else None


def _spread(log: Path | None) -> Spread:
    """Return the cluster as a way of reading, whose nodes write to the log themselves."""
    from sentinel.daemon.logged_scan import keep_tensors
    from sentinel.engines.cluster import RayEngine
    from sentinel.spreading import Spread

    keep = None if log is None else partial(keep_tensors, log.absolute())
    return Spread(RayEngine(), keep)


def exit_code(entries: tuple[ScanEntry, ...], fail_on: str) -> int:
    """Return 1 when a verdict is at or above ``fail_on``, else 2 when one is unreadable."""
    levels: list[Level] = [entry.verdict.level for entry in entries]
    bad = {"faulty"} if fail_on == "faulty" else {"faulty", "suspect"}
    if bad & set(levels):
        return 1
    return 2 if "unreadable" in levels or not levels else 0


class _Bar:
    """A progress bar over the bytes of a scan, shown when there is much to read."""

    def __init__(self, terminal: Console) -> None:
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TransferSpeedColumn,
        )

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=terminal,
            transient=True,
        )
        self._task = self._progress.add_task("reading", total=None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def begin(self, total_bytes: int) -> None:
        """Hear how much there is to read."""
        self._progress.update(self._task, total=total_bytes)
        if total_bytes >= _QUIET_BYTES:
            self._progress.start()

    def advance(self, size_bytes: int) -> None:
        """Hear that some of it was read."""
        self._progress.advance(self._task, size_bytes)
