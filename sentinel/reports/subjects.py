"""What a pipeline is told about: checkpoints, or a configuration before step 1, each with a place.

Annotations and alerts hang on a file, so each finding has one here: the file that is broken,
that of the first tensor it names, else the largest of the part it spoils.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING

from sentinel.reports.entries import ScanEntry
from sentinel.reports.words import origin_words, shown, skipped_words, untold_remedy
from sentinel.verdict import LEVEL_OF, LEVELS, Finding, Level, Verdict

if TYPE_CHECKING:
    from sentinel.preflight import Checked


@dataclass(frozen=True, slots=True)
class Subject:
    """Something that was judged.

    ``file_of`` tells the file of a tensor by its name and of a fault by its sentence, ``files``
    one of each part, both relative to ``root``; a configuration has neither and is its own file.
    ``unread`` tells what less than a whole look left out.
    """

    path: Path
    origin: str
    step: int | None
    verdict: Verdict
    root: Path
    file_of: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    files: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    unread: str | None = None

    def place(self, finding: Finding) -> Path:
        """Return the file that a finding is about, the whole subject when none is known."""
        named = (self.file_of.get(name) for name in (finding.message, *finding.tensors))
        of_part = (self.files.get(part) for part in finding.parts)
        file = next((one for one in (*named, *of_part) if one), None)
        return self.path if file is None else self.root / PurePosixPath(file)


def subjects_of_scan(entries: Sequence[ScanEntry]) -> tuple[Subject, ...]:
    """Return the checkpoints of a scan, in its order."""
    return tuple(map(_of_entry, entries))


def subjects_of_check(checked: Checked) -> tuple[Subject, ...]:
    """Return a configuration, and the adapter that its training begins from."""
    config = checked.config
    origin = f"{config.trainer}, {config.form}"
    own = Subject(config.path, origin, None, checked.verdict, config.path.parent)
    start = checked.start
    return (own, *([_of_entry(ScanEntry(start.checkpoint, start.verdict))] if start else []))


def _of_entry(entry: ScanEntry) -> Subject:
    checkpoint = entry.checkpoint
    files: dict[str, str] = {}
    for member in sorted(checkpoint.members, key=lambda one: one.size_bytes):
        files[member.part] = member.path
    wanted = {name for found in entry.verdict.findings for name in found.tensors}
    return Subject(
        checkpoint.path,
        origin_words(checkpoint),
        checkpoint.step,
        entry.verdict,
        checkpoint.root,
        {one.name: one.member for one in checkpoint.tensors if one.name in wanted}
        | {one.message: one.member for one in checkpoint.faults},
        files,
        skipped_words(entry.skipped) if entry.skipped else None,
    )


def gravest_first(subjects: Sequence[Subject]) -> Iterator[tuple[Subject, Finding]]:
    """Yield every finding, the gravest first: what shows only some shows those."""
    told = [(subject, found) for subject in subjects for found in subject.verdict.findings]
    yield from sorted(told, key=lambda one: -LEVELS.index(LEVEL_OF[one[1].severity]))


def not_whole(subjects: Sequence[Subject]) -> str | None:
    """Return a sentence that some of what is told was not looked at whole, None when all was."""
    partly = [one for one in subjects if one.unread]
    if not partly:
        return None
    return f"{len(partly)} of {len(subjects)} were not read whole: {partly[0].unread}"


def fails(level: Level, fail_on: str) -> bool:
    """Tell whether a level is at or above the one from which a pipeline fails."""
    return level == "faulty" or (level == "suspect" and fail_on == "suspect")


def alarms(level: Level, fail_on: str) -> bool:
    """Tell whether a level is to be told where only what matters is: it fails or is unreadable."""
    return level == "unreadable" or fails(level, fail_on)


def sentence(finding: Finding) -> str:
    """Return a finding in a line that any program can show: what is so, and what to do."""
    remedy = untold_remedy(finding)
    return shown(finding.message) + (f"; fix: {shown(remedy)}" if remedy else "")
