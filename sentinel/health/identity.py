"""Names that a repeat arrives at again: of a run, a checkpoint, an event."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Mapping

from sentinel.checkpoint import Member
from sentinel.errors import StateError

_PART_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


def new_run_id() -> str:
    """Return the name of a new run: a random UUID in its canonical text."""
    return str(uuid.uuid4())


def checkpoint_id(
    *,
    run_id: str | None,
    attempt: int | None,
    path: str,
    members: tuple[Member, ...],
    digests: Mapping[str, str],
) -> str:
    """Return the name of one checkpoint as it lay on the disk: 32 hexadecimal digits.

    ``path`` is relative to the run's root, ``digests`` maps a member's path to the digest of
    its content. Members are taken by name, so their order does not matter; a member without a
    digest is told apart by size and mtime alone.
    """
    parts = sorted(
        (member.path, member.size_bytes, member.mtime_ns, digests.get(member.path))
        for member in members
    )
    return _digest(["checkpoint", run_id, attempt, path, parts])


def event_id(*, run_id: str, attempt: int, kind: str, about: tuple[object, ...]) -> str:
    """Return the name of one event: 32 hexadecimal digits.

    ``about`` is what makes it this event and no other (a checkpoint, a rule, the number of a
    plan), never the time: an event told again after a crash must arrive at the same name.
    """
    return _digest(["event", run_id, attempt, kind, list(about)])


def require_run_id(run_id: str) -> str:
    """Return ``run_id`` when it is a UUID in canonical text.

    It becomes the name of a directory, so nothing else is let through; and a UUID is never
    taken for a number or a date by readers that guess the type of a hive partition.
    Raises StateError.
    """
    try:
        canonical: str | None = str(uuid.UUID(run_id))
    except ValueError:
        canonical = None
    if run_id != canonical:
        raise StateError(
            f"run '{run_id}'",
            fact="its name is no UUID like 'f81d4fae-7dec-41d0-a765-00a0c91e6bf6'",
            todo="use the run's id as `sentinel log` lists it",
        )
    return run_id


def require_part_name(name: str) -> str:
    """Return ``name`` when it is safe as a file name on every system, or raise StateError."""
    if not _PART_NAME.fullmatch(name):
        raise StateError(
            f"health log part '{name}'",
            fact="the name may hold only letters, digits, '-' and '_'",
            todo="use the id that checkpoint_id() or event_id() returned",
        )
    return name


def _digest(value: object) -> str:
    # JSON keeps the borders between the parts: ("a", "bc") and ("ab", "c") differ.
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode("ascii"), digest_size=16).hexdigest()
