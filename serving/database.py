"""The server's own state, in SQLite: jobs, keys, sessions. What the gallery knows is in the gallery.

Several processes may use it at once (a redeployment has two for a while); each write is one transaction.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pusa.errors import UserError
from pusa.gallery.candidate_set import CandidateSet
from pusa.gallery.index import ALL
from pusa.gallery.journal import Key

SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    job_id TEXT PRIMARY KEY, who TEXT NOT NULL, name TEXT NOT NULL, made REAL NOT NULL,
    idempotency TEXT, digest TEXT NOT NULL,   -- the key that the client gave, and of what it was sent with
    settings TEXT NOT NULL,                   -- JSON
    state TEXT NOT NULL,                      -- queued, running, done, failed
    stage TEXT NOT NULL DEFAULT '', done INTEGER NOT NULL DEFAULT 0, total INTEGER NOT NULL, error TEXT,
    owner TEXT, seen REAL NOT NULL DEFAULT 0, -- who works on it, and when it last said so
    finished REAL
);
CREATE UNIQUE INDEX IF NOT EXISTS once ON jobs (who, idempotency) WHERE idempotency IS NOT NULL;
CREATE TABLE IF NOT EXISTS encounters (token TEXT PRIMARY KEY, run TEXT NOT NULL, encounter_id TEXT NOT NULL);
DROP TABLE IF EXISTS answers;                 -- of an older version: without candidate sets
CREATE TABLE IF NOT EXISTS candidates (
    run TEXT NOT NULL, encounter_id TEXT NOT NULL, among TEXT NOT NULL, version TEXT NOT NULL, answer TEXT NOT NULL,
    PRIMARY KEY (run, encounter_id, among)
);
CREATE TABLE IF NOT EXISTS keys (
    name TEXT PRIMARY KEY, role TEXT NOT NULL, digest TEXT NOT NULL UNIQUE, made REAL NOT NULL, revoked REAL
);
CREATE TABLE IF NOT EXISTS sessions (
    digest TEXT PRIMARY KEY, name TEXT NOT NULL, csrf TEXT NOT NULL, expires REAL NOT NULL
);
"""
LEASE = 60.0  # s without a sign of life, after which another process takes a job over


@dataclass(frozen=True)
class Job:
    """A request with photos: its photos and results lie in DATA/jobs/<job_id>."""

    job_id: str
    who: str
    name: str  # for the reader: what was uploaded
    made: float  # s since 1970
    total: int  # photos
    digest: str = ""
    idempotency: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    state: str = "queued"
    stage: str = ""
    done: int = 0
    error: str | None = None
    finished: float | None = None


class Database:
    """The file DATA/server.sqlite."""

    def __init__(self, data: str) -> None:
        path = Path(data) / "server.sqlite"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
            self._connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;" + SCHEMA)
        except (OSError, sqlite3.Error) as e:
            raise UserError(f"Cannot use the data folder {data}: {e}. Give a folder that can be written to.") from e
        self._connection.row_factory = sqlite3.Row
        self._lock = threading.RLock()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it or nothing; one at a time."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise

    def rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        with self._lock:
            return self._connection.execute(sql, values).fetchall()

    def write(self, sql: str, *values: Any) -> int:
        """One statement; how many rows it changed."""
        with self.transaction() as c:
            return c.execute(sql, values).rowcount

    # ------------------------------------------------------------------------------------------------ jobs

    def add_job(self, job: Job, most: int) -> Job | None:
        """Adds a job, or returns the one that was added with its idempotency key before; None where `most` are open."""
        with self.transaction() as c:
            if job.idempotency is not None:
                old = c.execute("SELECT * FROM jobs WHERE who=? AND idempotency=?", (job.who, job.idempotency))
                if row := old.fetchone():
                    return _job(row)
            if c.execute("SELECT count(*) FROM jobs WHERE state IN ('queued', 'running')").fetchone()[0] >= most:
                return None
            c.execute(
                "INSERT INTO jobs (job_id, who, name, made, idempotency, digest, settings, state, total)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, 'queued', ?)",
                (job.job_id, job.who, job.name, job.made, job.idempotency, job.digest, json.dumps(job.settings),
                 job.total),
            )  # fmt: skip
        return job

    def job(self, job_id: str) -> Job | None:
        found = self.rows("SELECT * FROM jobs WHERE job_id=?", job_id)
        return _job(found[0]) if found else None

    def job_of(self, who: str, idempotency: str) -> Job | None:
        found = self.rows("SELECT * FROM jobs WHERE who=? AND idempotency=?", who, idempotency)
        return _job(found[0]) if found else None

    def jobs(self, limit: int = 50) -> list[Job]:
        """The newest first."""
        return [_job(row) for row in self.rows("SELECT * FROM jobs ORDER BY made DESC LIMIT ?", limit)]

    def open_jobs(self) -> int:
        return int(self.rows("SELECT count(*) AS n FROM jobs WHERE state IN ('queued', 'running')")[0]["n"])

    def take(self, owner: str, job_id: str | None = None) -> Job | None:
        """A job that nobody works on becomes the owner's: `job_id`, or the oldest; None where there is none."""
        stale = time.time() - LEASE
        free = "(state='queued' OR (state='running' AND seen < ?))"
        with self.transaction() as c:
            found = c.execute(
                f"SELECT * FROM jobs WHERE {free} AND (? IS NULL OR job_id=?) ORDER BY made LIMIT 1",
                (stale, job_id, job_id),
            ).fetchone()
            if found is None:
                return None
            c.execute("UPDATE jobs SET state='running', owner=?, seen=? WHERE job_id=?",
                      (owner, time.time(), found["job_id"]))  # fmt: skip
        return _job(found)

    def tell(self, owner: str, job_id: str, stage: str, done: int) -> bool:
        """Says how far a job is; whether it is still the owner's."""
        sql = "UPDATE jobs SET stage=?, done=?, seen=? WHERE job_id=? AND owner=? AND state='running'"
        return self.write(sql, stage, done, time.time(), job_id, owner) == 1

    def beat(self, owner: str) -> None:
        """A sign of life for all jobs of an owner."""
        self.write("UPDATE jobs SET seen=? WHERE owner=? AND state='running'", time.time(), owner)

    def release(self, owner: str) -> None:
        """An owner that ends leaves its jobs to others."""
        self.write("UPDATE jobs SET state='queued', owner=NULL WHERE owner=? AND state='running'", owner)

    def finish(self, owner: str, job_id: str, error: str | None, keys: Sequence[tuple[str, Key]] = ()) -> None:
        """Ends a job; `keys`: its encounters by token."""
        with self.transaction() as c:
            c.executemany("INSERT OR REPLACE INTO encounters VALUES (?, ?, ?)", [(t, *key) for t, key in keys])
            c.execute(
                "UPDATE jobs SET state=?, error=?, finished=?, stage='', owner=NULL WHERE job_id=? AND owner=?",
                ("failed" if error else "done", error, time.time(), job_id, owner),
            )

    def remove_job(self, job_id: str) -> bool:
        """Forgets a job that is finished; whether there was one."""
        return self.write("DELETE FROM jobs WHERE job_id=? AND state IN ('done', 'failed')", job_id) == 1

    def encounter(self, token: str) -> Key | None:
        """The key of an encounter of a job."""
        found = self.rows("SELECT run, encounter_id FROM encounters WHERE token=?", token)
        return (found[0]["run"], found[0]["encounter_id"]) if found else None

    # ------------------------------------------------------------------------------------------------ answers

    def keep_answer(self, key: Key, version: str, answer: Any, among: CandidateSet = ALL) -> None:
        sql = "INSERT OR REPLACE INTO candidates VALUES (?, ?, ?, ?, ?)"
        self.write(sql, *key, str(among), version, json.dumps(answer))

    def answer(self, key: Key, among: CandidateSet = ALL) -> tuple[str, Any] | None:
        """The last answer about an encounter, and the version of the gallery that gave it."""
        sql = "SELECT version, answer FROM candidates WHERE run=? AND encounter_id=? AND among=?"
        rows = self.rows(sql, *key, str(among))
        return (rows[0]["version"], json.loads(rows[0]["answer"])) if rows else None

    def answers(self) -> dict[Key, tuple[str, Any]]:
        """The last answer about each encounter among all, and the version of the gallery that gave it."""
        rows = self.rows("SELECT * FROM candidates WHERE among=?", str(ALL))
        return {(r["run"], r["encounter_id"]): (r["version"], json.loads(r["answer"])) for r in rows}


def _job(row: sqlite3.Row) -> Job:
    fields = {name: row[name] for name in Job.__dataclass_fields__}
    return Job(**fields | {"settings": json.loads(row["settings"])})
