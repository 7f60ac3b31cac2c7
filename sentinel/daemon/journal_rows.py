"""The journal's tables, and the way between their rows and values."""

from __future__ import annotations

import json
import os
import sqlite3
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sentinel.checkpoint import Identity
from sentinel.daemon.records import Action, Attempt, Judged
from sentinel.verdict import Finding

VERSION = 1
TABLES = """
CREATE TABLE IF NOT EXISTS run (
    run_id TEXT PRIMARY KEY
);
CREATE TABLE IF NOT EXISTS root (
    path TEXT PRIMARY KEY,
    run_id TEXT NOT NULL REFERENCES run
);
CREATE TABLE IF NOT EXISTS command (
    run_id TEXT PRIMARY KEY REFERENCES run,
    told TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS attempt (
    run_id TEXT NOT NULL REFERENCES run,
    attempt INTEGER NOT NULL,
    parent TEXT,
    state TEXT NOT NULL,
    command TEXT NOT NULL,
    plan TEXT,
    pid INTEGER,
    pid_started REAL,
    exit_code INTEGER,
    outcome TEXT,
    PRIMARY KEY (run_id, attempt)
);
CREATE TABLE IF NOT EXISTS judged (
    checkpoint_id TEXT PRIMARY KEY,
    run_id TEXT NOT NULL REFERENCES run,
    attempt INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    parent TEXT,
    path TEXT NOT NULL,
    identity TEXT NOT NULL,
    step INTEGER,
    updates_done INTEGER,
    level TEXT NOT NULL,
    target INTEGER NOT NULL,
    findings TEXT NOT NULL,
    settings TEXT NOT NULL,
    loss REAL,
    quarantined_to TEXT
);
CREATE INDEX IF NOT EXISTS judged_by_identity ON judged (run_id, identity);
CREATE INDEX IF NOT EXISTS judged_by_seq ON judged (run_id, seq);
CREATE INDEX IF NOT EXISTS judged_by_attempt ON judged (run_id, attempt, seq);
CREATE INDEX IF NOT EXISTS judged_by_step ON judged (run_id, attempt, step);
CREATE TABLE IF NOT EXISTS action (
    run_id TEXT NOT NULL REFERENCES run,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    state TEXT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (run_id, kind, key)
);
"""


def attempt_of(row: sqlite3.Row) -> Attempt:
    """Return an attempt from its row."""
    values = dict(row)
    values["command"] = tuple(json.loads(values["command"]))
    values["plan"] = json.loads(values["plan"]) if values["plan"] else None
    return Attempt(**values)


def judged_of(row: sqlite3.Row) -> Judged:
    """Return a judged checkpoint from its row."""
    values = dict(row)
    del values["identity"]
    values["path"] = path_of(values["path"])
    values["target"] = bool(values["target"])
    values["findings"] = tuple(_finding(found) for found in json.loads(values["findings"]))
    values["settings"] = json.loads(values["settings"])
    moved = values["quarantined_to"]
    values["quarantined_to"] = None if moved is None else path_of(moved)
    return Judged(**values)


def judged_values(judged: Judged, identity: Identity) -> tuple[object, ...]:
    """Return the row of a judged checkpoint, in the order of the columns."""
    moved = judged.quarantined_to
    return (
        judged.checkpoint_id,
        judged.run_id,
        judged.attempt,
        judged.seq,
        judged.parent,
        path_value(judged.path),
        json.dumps(identity),
        judged.step,
        judged.updates_done,
        judged.level,
        judged.target,
        json.dumps([_plain(found) for found in judged.findings]),
        json.dumps(dict(judged.settings), default=str),
        judged.loss,
        None if moved is None else path_value(moved),
    )


def _plain(found: Finding) -> dict[str, Any]:
    return asdict(found) | {"remedy": dict(found.remedy)}


def _finding(values: dict[str, Any]) -> Finding:
    lists = {name: tuple(values[name]) for name in ("parts", "tensors")}
    return Finding(**(values | lists))


def action_of(row: sqlite3.Row) -> Action:
    """Return an action from its row."""
    return Action(row["run_id"], row["kind"], row["key"], row["state"], json.loads(row["detail"]))


def path_value(path: str | Path) -> str | bytes:
    """Return a path as SQLite can keep it: a name that is no UTF-8 goes in as its bytes."""
    text = str(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        return os.fsencode(text)
    return text


def path_of(value: str | bytes) -> Path:
    """Return the path that `path_value` made a value of."""
    return Path(os.fsdecode(value))
