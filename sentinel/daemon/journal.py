"""The daemon's own memory: what was judged, which attempts ran, which actions are half done.

One SQLite file in the state directory. It alone decides what is still to be done after a kill:
an action is written as *intent* before anything happens and as *done* when it is over, and every
action can be repeated from its intent without doing harm twice. The Parquet health log is for
readers; nothing here is read back from it.
"""

from __future__ import annotations

import json
import os
import sqlite3
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from sentinel.checkpoint import Identity, path_text
from sentinel.daemon.journal_rows import (
    TABLES,
    VERSION,
    action_of,
    attempt_of,
    judged_of,
    judged_values,
    path_of,
    path_value,
)
from sentinel.daemon.records import Action, Attempt, Judged
from sentinel.errors import StateError

__all__ = ["Action", "Attempt", "Journal", "Judged"]


class Journal:
    """The journal of one state directory; every method is one durable transaction."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from error
        with self._told():
            # One thread writes; the connection is closed by the thread that opened it.
            self._db = sqlite3.connect(path, isolation_level=None, timeout=30)
        try:
            # Of two that turn a new file to WAL at once SQLite refuses one without waiting.
            with self._told(), FileLock(f"{path}.opening", timeout=30):
                self._open_schema()
        except OSError as error:
            self._db.close()
            raise self._unusable(error.strerror or str(error)) from error
        except BaseException:
            self._db.close()
            raise

    def _open_schema(self) -> None:
        self._db.row_factory = sqlite3.Row
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise StateError(
                "journal",
                where=f"'{self._path}'",
                fact=f"was written by a newer sentinel (version {version}, known {VERSION})",
                todo="update sentinel or give another --state directory",
            )
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("PRAGMA foreign_keys=ON")
        self._db.executescript(TABLES)
        self._db.execute(f"PRAGMA user_version={VERSION}")

    def close(self) -> None:
        """Close the file; the journal cannot be used afterwards."""
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._told():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                # On a full disk SQLite has rolled back by itself.
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise

    def _rows(self, sql: str, *values: object) -> list[sqlite3.Row]:
        with self._told():
            return self._db.execute(sql, values).fetchall()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn what SQLite raises into the house's error."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise self._unusable(str(error)) from error
        except sqlite3.Error as error:
            raise StateError(
                "journal",
                where=f"'{self._path}'",
                fact=f"is not readable as SQLite ({error})",
                todo="move it away to begin a new one, or give another --state directory",
            ) from error

    def _unusable(self, fact: str) -> StateError:
        return StateError(
            "journal",
            where=f"'{self._path}'",
            fact=f"cannot be used ({fact})",
            todo="check the disk's space and permissions, or give another --state directory",
        )

    def bind_run(self, roots: Sequence[Path]) -> str:
        """Return the run that owns these directories, a new one when none of them is known.

        A root that belongs to a run keeps it, so the run survives a move of its outputs: give
        the old and the new directory together. Roots of two different runs are a StateError.
        Links are followed: a directory has one run, however it is called.
        """
        names = [path_value(os.path.realpath(root)) for root in roots]
        marks = ",".join("?" * len(names))
        with self._transaction() as db:
            rows = db.execute(
                f"SELECT DISTINCT run_id FROM root WHERE path IN ({marks})",  # noqa: S608 - marks
                names,
            ).fetchall()
            if len(rows) > 1:
                raise StateError(
                    "directories",
                    where=", ".join(f"'{path_text(root)}'" for root in roots),
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
        for row in self._rows("SELECT run_id, path FROM root ORDER BY rowid"):
            found.setdefault(row["run_id"], []).append(path_of(row["path"]))
        return {run_id: tuple(paths) for run_id, paths in found.items()}

    def remember_command(self, run_id: str, told: Mapping[str, object]) -> None:
        """Write down how the user started a run (JSON-ready); the last one is `last_started`."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO command VALUES (?, ?)", (run_id, json.dumps(told)))

    def command(self, run_id: str) -> Mapping[str, object] | None:
        """Return how the user started a run, None for one that sentinel never started."""
        rows = self._rows("SELECT told FROM command WHERE run_id=?", run_id)
        return json.loads(rows[0]["told"]) if rows else None

    def last_started(self) -> str | None:
        """Return the run that was started last (a row replaced is the newest), None for none."""
        rows = self._rows("SELECT run_id FROM command ORDER BY rowid DESC LIMIT 1")
        return str(rows[0]["run_id"]) if rows else None

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
        with self._told():
            return _last_attempt(self._db, run_id)

    def attempts(self, run_id: str) -> tuple[Attempt, ...]:
        """Return all attempts of a run, oldest first."""
        rows = self._rows("SELECT * FROM attempt WHERE run_id=? ORDER BY attempt", run_id)
        return tuple(attempt_of(row) for row in rows)

    def next_seq(self, run_id: str) -> int:
        """Return the number the next judged checkpoint of the run gets."""
        (row,) = self._rows("SELECT coalesce(max(seq), 0) + 1 FROM judged WHERE run_id=?", run_id)
        return int(row[0])

    def is_judged(self, run_id: str, identity: Identity) -> bool:
        """Tell whether these very files already have a verdict, under whatever name."""
        known = "SELECT 1 FROM judged WHERE run_id=? AND identity=? LIMIT 1"
        return bool(self._rows(known, run_id, json.dumps(identity)))

    def is_judged_as(self, checkpoint_id: str, identity: Identity) -> bool:
        """Tell whether these very files are a certain judged checkpoint."""
        known = "SELECT 1 FROM judged WHERE checkpoint_id=? AND identity=?"
        return bool(self._rows(known, checkpoint_id, json.dumps(identity)))

    def record(self, judged: Judged, identity: Identity) -> None:
        """Write down a verdict: from here on the checkpoint is not judged again."""
        with self._transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO judged VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                judged_values(judged, identity),
            )

    def judged(self, run_id: str, attempt: int | None = None) -> tuple[Judged, ...]:
        """Return the judged checkpoints of a run, or of one attempt, in the order they came."""
        rows = self._rows(
            "SELECT * FROM judged WHERE run_id=?1 AND (?2 IS NULL OR attempt=?2) ORDER BY seq",
            run_id,
            attempt,
        )
        return tuple(judged_of(row) for row in rows)

    def newest(self, run_id: str, attempt: int, *, limit: int) -> tuple[Judged, ...]:
        """Return the last checkpoints that were judged in an attempt, newest first."""
        rows = self._rows(
            "SELECT * FROM judged WHERE run_id=? AND attempt=? ORDER BY seq DESC LIMIT ?",
            run_id,
            attempt,
            limit,
        )
        return tuple(judged_of(row) for row in rows)

    def checkpoint(self, checkpoint_id: str) -> Judged | None:
        """Return one judged checkpoint."""
        rows = self._rows("SELECT * FROM judged WHERE checkpoint_id=?", checkpoint_id)
        return judged_of(rows[0]) if rows else None

    def highest_step(self, run_id: str, attempt: int) -> tuple[int | None, frozenset[Path]]:
        """Return the highest step judged in an attempt, and the paths that were judged at it."""
        rows = self._rows(
            "SELECT step, path FROM judged WHERE run_id=?1 AND attempt=?2 AND step ="
            " (SELECT max(step) FROM judged WHERE run_id=?1 AND attempt=?2)",
            run_id,
            attempt,
        )
        return rows[0]["step"] if rows else None, frozenset(path_of(row["path"]) for row in rows)

    def loss_before(self, run_id: str, attempt: int) -> float | None:
        """Return the loss to compare a repair with: the last that earlier attempts tell.

        That of a faulty checkpoint counts only where no other tells one, and one of exactly zero
        never: a trainer may show a NaN so.
        """
        rows = self._rows(
            "SELECT loss FROM judged WHERE run_id=? AND attempt<? AND loss <> 0"
            " ORDER BY level='faulty', seq DESC LIMIT 1",
            run_id,
            attempt,
        )
        return float(rows[0]["loss"]) if rows else None

    def quarantined(self, checkpoint_id: str, place: Path) -> None:
        """Write down where a checkpoint was moved to."""
        with self._transaction() as db:
            db.execute(
                "UPDATE judged SET quarantined_to=? WHERE checkpoint_id=?",
                (path_value(place), checkpoint_id),
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
        return action_of(row)

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
        rows = self._rows(
            "SELECT * FROM action WHERE run_id=? AND kind=? AND state='intent' ORDER BY rowid",
            run_id,
            kind,
        )
        return tuple(action_of(row) for row in rows)

    def action(self, run_id: str, kind: str, key: str) -> Action | None:
        """Return one action by its key."""
        known = "SELECT * FROM action WHERE run_id=? AND kind=? AND key=?"
        rows = self._rows(known, run_id, kind, key)
        return action_of(rows[0]) if rows else None


def _last_attempt(db: sqlite3.Connection, run_id: str) -> Attempt | None:
    row = db.execute(
        "SELECT * FROM attempt WHERE run_id=? ORDER BY attempt DESC LIMIT 1", (run_id,)
    ).fetchone()
    return None if row is None else attempt_of(row)
