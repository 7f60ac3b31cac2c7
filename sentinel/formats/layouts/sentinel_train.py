"""A checkpoint of the bundled trainer: `sentinel_manifest.json`, written last, says it all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from sentinel.checkpoint import path_text
from sentinel.errors import InputError, TruncatedError
from sentinel.formats import trainer_log
from sentinel.formats.containers.json_text import read_json_object
from sentinel.formats.draft import Draft
from sentinel.formats.files import stat_member
from sentinel.formats.layouts.base import directories_at, files_at
from sentinel.formats.layouts.parts import part_of, read_all, stat_parts
from sentinel.formats.naming import is_plain_name, step_of_path
from sentinel.formats.nested import stat_nested
from sentinel.formats.scalars import as_count, as_finite, as_text, brief
from sentinel.formats.settings import Setting, flatten

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel.checkpoint import Checkpoint, Member
    from sentinel.formats.layouts.base import Candidate, Place

NAME = "sentinel-train"
MANIFEST = "sentinel_manifest.json"
SCHEMA = 1

_SECTIONS = ("base", "adapter", "optimizer", "versions", "device", "resumed_from", "recipe")


def recognise(place: Place) -> Candidate | None:
    """Take a directory with a manifest."""
    return place.candidate(NAME) if MANIFEST in place.files else None


def members(path: Path) -> tuple[Member, ...]:
    """Look at the parts and the manifest."""
    found = (*stat_parts(path, files_at(path)), *stat_nested(path, directories_at(path)))
    try:
        return (*found, stat_member(path, MANIFEST, "state"))
    except InputError:
        return found


def complete(path: Path) -> bool | None:
    """Tell whether the manifest, written last, can be read."""
    try:
        return as_count(read_json_object(path / MANIFEST).get("step")) is not None
    except InputError:
        return False


def read(path: Path) -> Checkpoint:
    """Read headers, manifest and log, and hold the files against the manifest."""
    draft = Draft(path)
    manifest = draft.read_json(MANIFEST, "state") or {}
    schema = manifest.get("schema")
    if manifest and schema != SCHEMA:
        fact = f"has schema {brief(schema)}, known is {SCHEMA}"
        draft.fault(_broken(draft, fact), "state", MANIFEST)
    _check_files(draft, manifest.get("files"))
    files = files_at(path)
    adapter, settings = read_all(draft, files, directories_at(path))
    log = trainer_log.trainer_log_of(_log(draft, files))
    step = as_count(manifest.get("step"))
    updates = as_count(manifest.get("updates_done"))
    return draft.finish(
        path,
        NAME,
        complete=step is not None,
        trainer=as_text(manifest.get("trainer")) or "sentinel-train",
        step=step_of_path(path) if step is None else step,
        epoch=as_finite(manifest.get("epoch")),
        updates_done=log.updates_done if updates is None else updates,
        adapter=adapter,
        metrics=log.metrics,
        settings={**settings, **_settings(manifest)},
        saved_as_trained=True,
    )


def _log(draft: Draft, files: frozenset[str]) -> Mapping[str, object]:
    if trainer_log.NAME not in files:
        return {}
    return draft.read_json(trainer_log.NAME, "state") or {}


def _settings(manifest: Mapping[str, object]) -> dict[str, Setting]:
    found: dict[str, Setting] = {}
    for section in _SECTIONS:
        found |= flatten(section, manifest.get(section))
    precision = found.get("adapter.dtype")
    if precision is not None:
        found["precision.adapter"] = precision
    return found


def _check_files(draft: Draft, named: object) -> None:
    """Turn every file that is not as the manifest says into a fault."""
    if not isinstance(named, dict):
        return
    for name, entry in named.items():
        if not _stays_inside(name):
            draft.fault(_broken(draft, f"names {name!r:.200}"), "state", MANIFEST)
            continue
        part = part_of(name) or "state"
        member = draft.add_member(name, part)
        size_bytes = as_count(entry.get("size_bytes")) if isinstance(entry, dict) else None
        if member is not None and size_bytes is not None and size_bytes != member.size_bytes:
            draft.fault(_other_size(draft, member, size_bytes), part, name)
        if member is not None and part == "state":
            draft.note(name, part)


def _stays_inside(name: str) -> bool:
    return (
        as_text(name) is not None
        and all(map(is_plain_name, name.split("/")))
        and bool(PurePosixPath(name).parts)
    )


def _other_size(draft: Draft, member: Member, size_bytes: int) -> InputError:
    kind = TruncatedError if member.size_bytes < size_bytes else InputError
    return kind(
        f"file '{path_text(draft.root / member.path)}'",
        fact=f"has {member.size_bytes} bytes, its manifest says {size_bytes}",
        todo="take another checkpoint, or copy this one again",
    )


def _broken(draft: Draft, fact: str) -> InputError:
    return InputError(
        f"file '{path_text(draft.root / MANIFEST)}'", fact=fact, todo="update sentinel, or check it"
    )
