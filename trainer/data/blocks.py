"""How records become the rows of a batch: cut from one stream, laid side by side, or alone."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence

from .encode import IGNORED, Encoded


def cut(records: Iterable[Encoded], size: int) -> tuple[list[Encoded], int]:
    """Return blocks of ``size`` tokens cut from all records in a row, and the number of tokens.

    What follows the last whole block is left out.
    """
    tokens: list[int] = []
    for record in records:
        tokens += record.tokens
    blocks = [tokens[at : at + size] for at in range(0, len(tokens) - size + 1, size)]
    return [Encoded(block, block) for block in blocks], len(tokens)


def shorten(record: Encoded, size: int) -> Encoded | None:
    """Return a record's first ``size`` tokens, None when the loss would count none of them.

    The first token of a row is never predicted, so its label counts for nothing.
    """
    labels = record.labels[:size]
    if all(label == IGNORED for label in labels[1:]):
        return None
    return Encoded(record.tokens[:size], labels)


def fill(records: Sequence[Encoded], size: int) -> list[list[Encoded]]:
    """Return groups of records of at most ``size`` tokens together: best fit, longest first.

    The groups come in the order of the first record in each, so that the order of the data
    stays recognisable; records in a group keep their order.
    """
    open_groups: list[tuple[int, int]] = []  # (room left, number of the group), sorted
    groups: list[list[int]] = []
    for at in sorted(range(len(records)), key=lambda at: (-len(records[at].tokens), at)):
        length = len(records[at].tokens)
        found = bisect_left(open_groups, (length, -1))
        if found < len(open_groups):
            room, number = open_groups.pop(found)
        else:
            room, number = size, len(groups)
            groups.append([])
        groups[number].append(at)
        insort(open_groups, (room - length, number))
    ordered = sorted(sorted(group) for group in groups)
    return [[records[at] for at in group] for group in ordered]
