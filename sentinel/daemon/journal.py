"""The daemon's own memory: what was judged, which attempts ran, which actions are half done.

One SQLite file in the state directory. It alone decides what is still to be done after a kill:
an action is written as *intent* before anything happens and as *done* when it is over, and every
action can be repeated from its intent without doing harm twice. The Parquet health log is for
readers; nothing here is read back from it.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from sentinel.checkpoint import Identity
from sentinel.errors import StateError
from sentinel.verdict import Finding, Level

AttemptState = Literal["planned", "started", "ended"]
ActionState = Literal["intent", "done"]

_VERSION = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS run (
    run_id TEXT PRIMARY KEY
);
CREATE TABLE IF NOT EXISTS root (
    path TEXT PRIMARY KEY,
    run_id TEXT NOT NULL REFERENCES run
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
CREATE TABLE IF NOT EXISTS action (
    run_id TEXT NOT NULL REFERENCES run,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    state TEXT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (run_id, kind, key)
);
"""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One start of the trainer.

    ``pid_started`` is the process's start time, so that a reused pid is never taken for it; both
    are None until the process is known to live.
    """

    run_id: str
    attempt: int
    parent: str | None
    state: AttemptState
    command: tuple[str, ...]
    plan: Mapping[str, object] | None = None
    pid: int | None = None
    pid_started: float | None = None
    exit_code: int | None = None
    outcome: str | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """A checkpoint that has its verdict.

    ``target`` tells whether a resume may begin here, ``loss`` is the newest loss the trainer
    logged, ``quarantined_to`` is where it was moved.
    """

    checkpoint_id: str
    run_id: str
    attempt: int
    seq: int
    parent: str | None
    path: Path
    step: int | None
    updates_done: int | None
    level: Level
    target: bool
    findings: tuple[Finding, ...]
    settings: Mapping[str, object]
    loss: float | None = None
    quarantined_to: Path | None = None


@dataclass(frozen=True, slots=True)
class Action:
    """Something sentinel set out to do; ``detail`` holds all that doing it again needs."""

    run_id: str
    kind: str
    key: str
    state: ActionState
    detail: Mapping[str, object]


class Journal:
    """The journal of one state directory; every method is one durable transaction."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        try:
            # One thread writes; the connection is closed by the thread that opened it.
            self._db = sqlite3.connect(path, isolation_level=None, timeout=30)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA foreign_keys=ON")
            self._open_schema()
        except sqlite3.DatabaseError as error:
            raise StateError(
                "journal",
                where=f"'{path}'",
                fact=f"is not readable as SQLite ({error})",
                todo="move it away to begin a new one, or give another --state directory",
            ) from error

    def _open_schema(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > _VERSION:
            raise StateError(
                "journal",
                where=f"'{self._path}'",
                fact=f"was written by a newer sentinel (version {version}, known {_VERSION})",
                todo="update sentinel or give another --state directory",
            )
        self._db.executescript(_TABLES)
        self._db.execute(f"PRAGMA user_version={_VERSION}")

    def close(self) -> None:
        """Close the file; the journal cannot be used afterwards."""
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def bind_run(self, roots: Sequence[Path]) -> str:
        """Return the run that owns these directories, a new one when none of them is known.

        A root that belongs to a run keeps it, so the run survives a move of its outputs: give
        the old and the new directory together. Roots of two different runs are a StateError.
        """
        names = [str(root) for root in roots]
        marks = ",".join("?" * len(names))
        with self._transaction() as db:
            rows = db.execute(
                f"SELECT DISTINCT run_id FROM root WHERE path IN ({marks})",  # noqa: S608 - marks
                names,
            ).fetchall()
            if len(rows) > 1:
                raise StateError(
                    "directories",
                    where=", ".join(f"'{name}'" for name in names),
                    fact="belong to different runs",
                    todo="watch them one by one or use a new --state directory",
                )
            run_id = rows[0]["run_id"] if rows else str(uuid.uuid4())
            db.execute("INSERT OR IGNORE INTO run VALUES (?)", (run_id,))
            db.executemany(
                "INSERT OR IGNORE INTO root VALUES (?, ?)", [(name, run_id) for name in names]
            )
        return str(run_id)

    def runs(self) -> dict[str, tuple[Path, ...]]:
        """Return every run with the directories bound to it."""
        found: dict[str, list[Path]] = {}
        for row in self._db.execute("SELECT run_id, path FROM root ORDER BY rowid"):
            found.setdefault(row["run_id"], []).append(Path(row["path"]))
        return {run_id: tuple(paths) for run_id, paths in found.items()}

    def plan_attempt(
        self,
        run_id: str,
        *,
        parent: str | None,
        command: Sequence[str],
        plan: Mapping[str, object] | None,
    ) -> Attempt:
        """Write down the next attempt before its process is started; repeats return the same."""
        with self._transaction() as db:
            last = _last_attempt(db, run_id)
            if last is not None and last.state == "planned":
                return last
            number = last.attempt + 1 if last else 1
            db.execute(
                "INSERT INTO attempt (run_id, attempt, parent, state, command, plan)"
                " VALUES (?, ?, ?, 'planned', ?, ?)",
                (run_id, number, parent, json.dumps(list(command)), json.dumps(plan)),
            )
        return Attempt(run_id, number, parent, "planned", tuple(command), plan)

    def attempt_started(self, attempt: Attempt, *, pid: int, pid_started: float) -> None:
        """Write down which process the attempt is."""
        with self._transaction() as db:
            db.execute(
                "UPDATE attempt SET state='started', pid=?, pid_started=?"
                " WHERE run_id=? AND attempt=?",
                (pid, pid_started, attempt.run_id, attempt.attempt),
            )

    def attempt_ended(self, attempt: Attempt, *, exit_code: int | None, outcome: str) -> None:
        """Write down that the attempt's process is gone and what became of it."""
        with self._transaction() as db:
            db.execute(
                "UPDATE attempt SET state='ended', exit_code=?, outcome=?"
                " WHERE run_id=? AND attempt=?",
                (exit_code, outcome, attempt.run_id, attempt.attempt),
            )

    def open_attempt(self, run_id: str, *, parent: str | None) -> Attempt:
        """Begin an attempt that sentinel did not start itself, beside a running trainer."""
        attempt = self.plan_attempt(run_id, parent=parent, command=(), plan=None)
        with self._transaction() as db:
            db.execute(
                "UPDATE attempt SET state='started' WHERE run_id=? AND attempt=?",
                (run_id, attempt.attempt),
            )
        return attempt

    def last_attempt(self, run_id: str) -> Attempt | None:
        """Return the newest attempt of a run."""
        return _last_attempt(self._db, run_id)

    def attempts(self, run_id: str) -> tuple[Attempt, ...]:
        """Return all attempts of a run, oldest first."""
        rows = self._db.execute("SELECT * FROM attempt WHERE run_id=? ORDER BY attempt", (run_id,))
        return tuple(_attempt(row) for row in rows)

    def next_seq(self, run_id: str) -> int:
        """Return the number the next judged checkpoint of the run gets."""
        row = self._db.execute(
            "SELECT coalesce(max(seq), 0) + 1 FROM judged WHERE run_id=?", (run_id,)
        ).fetchone()
        return int(row[0])

    def is_judged(self, run_id: str, identity: Identity) -> bool:
        """Tell whether these very files already have a verdict, under whatever name."""
        row = self._db.execute(
            "SELECT 1 FROM judged WHERE run_id=? AND identity=?",
            (run_id, json.dumps(identity)),
        ).fetchone()
        return row is not None

    def record(self, judged: Judged, identity: Identity) -> None:
        """Write down a verdict: from here on the checkpoint is not judged again."""
        with self._transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO judged VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                (
                    judged.checkpoint_id,
                    judged.run_id,
                    judged.attempt,
                    judged.seq,
                    judged.parent,
                    str(judged.path),
                    json.dumps(identity),
                    judged.step,
                    judged.updates_done,
                    judged.level,
                    judged.target,
                    json.dumps([_plain(found) for found in judged.findings]),
                    json.dumps(dict(judged.settings), default=str),
                    judged.loss,
                    None if judged.quarantined_to is None else str(judged.quarantined_to),
                ),
            )

    def judged(self, run_id: str) -> tuple[Judged, ...]:
        """Return every checkpoint of a run that has a verdict, in the order they came."""
        rows = self._db.execute("SELECT * FROM judged WHERE run_id=? ORDER BY seq", (run_id,))
        return tuple(_judged(row) for row in rows)

    def quarantined(self, checkpoint_id: str, place: Path) -> None:
        """Write down where a checkpoint was moved to."""
        with self._transaction() as db:
            db.execute(
                "UPDATE judged SET quarantined_to=? WHERE checkpoint_id=?",
                (str(place), checkpoint_id),
            )

    def intend(self, run_id: str, kind: str, key: str, detail: Mapping[str, object]) -> Action:
        """Write down an action before doing it; an action already known is returned as it is."""
        with self._transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO action VALUES (?, ?, ?, 'intent', ?)",
                (run_id, kind, key, json.dumps(dict(detail))),
            )
            row = db.execute(
                "SELECT * FROM action WHERE run_id=? AND kind=? AND key=?", (run_id, kind, key)
            ).fetchone()
        return _action(row)

    def done(self, action: Action, detail: Mapping[str, object] | None = None) -> None:
        """Write down that an action is over, with what came of it."""
        merged = {**action.detail, **(detail or {})}
        with self._transaction() as db:
            db.execute(
                "UPDATE action SET state='done', detail=? WHERE run_id=? AND kind=? AND key=?",
                (json.dumps(merged), action.run_id, action.kind, action.key),
            )

    def open_actions(self, run_id: str, kind: str) -> tuple[Action, ...]:
        """Return the actions of a kind that were begun and not finished, oldest first."""
        rows = self._db.execute(
            "SELECT * FROM action WHERE run_id=? AND kind=? AND state='intent' ORDER BY rowid",
            (run_id, kind),
        )
        return tuple(_action(row) for row in rows)

    def action(self, run_id: str, kind: str, key: str) -> Action | None:
        """Return one action by its key."""
        row = self._db.execute(
            "SELECT * FROM action WHERE run_id=? AND kind=? AND key=?", (run_id, kind, key)
        ).fetchone()
        return None if row is None else _action(row)


def _last_attempt(db: sqlite3.Connection, run_id: str) -> Attempt | None:
    row = db.execute(
        "SELECT * FROM attempt WHERE run_id=? ORDER BY attempt DESC LIMIT 1", (run_id,)
    ).fetchone()
    return None if row is None else _attempt(row)


def _attempt(row: sqlite3.Row) -> Attempt:
    values = dict(row)
    values["command"] = tuple(json.loads(values["command"]))
    values["plan"] = json.loads(values["plan"]) if values["plan"] else None
    return Attempt(**values)


def _judged(row: sqlite3.Row) -> Judged:
    values = dict(row)
    del values["identity"]
    values["path"] = Path(values["path"])
    values["target"] = bool(values["target"])
    values["findings"] = tuple(_finding(found) for found in json.loads(values["findings"]))
    values["settings"] = json.loads(values["settings"])
    moved = values["quarantined_to"]
    values["quarantined_to"] = None if moved is None else Path(moved)
    return Judged(**values)


def _plain(found: Finding) -> dict[str, Any]:
    return asdict(found) | {"remedy": dict(found.remedy)}


def _finding(values: dict[str, Any]) -> Finding:
    lists = {name: tuple(values[name]) for name in ("parts", "tensors")}
    return Finding(**(values | lists))


def _action(row: sqlite3.Row) -> Action:
    return Action(row["run_id"], row["kind"], row["key"], row["state"], json.loads(row["detail"]))
