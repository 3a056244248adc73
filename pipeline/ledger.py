"""The ledger of acquisition: one SQLite file per dataset, one row per video, committed row by row.

It changes with every try; the acquired artefact is a frozen snapshot of it. Killed at any moment, it tells the next
run what has been tried, how often, and what came of it.
"""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
import threading
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError

# Probe columns of schemas.ACQUIRED with the value that stands where there is no file to probe.
NO_FACTS: dict[str, Any] = {
    "video_codec": "",
    "audio_codec": "",
    "width": 0,
    "height": 0,
    "fps": math.nan,
    "frames": 0,
    "duration_s": math.nan,
    "audio_rate_hz": 0,
    "audio_channels": 0,
    "audio_duration_s": math.nan,
    "video_start_s": math.nan,
    "audio_start_s": math.nan,
}
TABLES = """
CREATE TABLE IF NOT EXISTS video (
    id TEXT PRIMARY KEY, status TEXT, reason TEXT, detail TEXT, permanent INTEGER, attempts INTEGER, tried_at REAL,
    path TEXT, whole INTEGER, bytes INTEGER, modified_ns INTEGER, sha256 TEXT, facts TEXT, prober TEXT
);
CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value INTEGER);
CREATE TABLE IF NOT EXISTS unlisted (id TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS archive (path TEXT PRIMARY KEY, bytes INTEGER, modified_ns INTEGER, names TEXT);
"""
LISTED = "AND id NOT IN (SELECT id FROM unlisted)"
COLUMNS = (
    "id", "status", "reason", "detail", "permanent", "attempts", "tried_at", "path", "whole", "bytes", "modified_ns",
    "sha256", "facts", "prober",
)


@dataclass(frozen=True)
class Row:
    """What is known about one video. ``reason`` is empty if it can be used.

    ``permanent``: another try can't help. ``attempts``: tries to fetch it; ``tried_at``: time of the last one (s since
    1970, 0: never). ``whole``: the file is longer than the video, which has to be cut from it. ``modified_ns``,
    ``prober``: state of the file and version of what looked at it; equal ones need no second look.
    """

    id: str
    reason: str = "not_found"
    detail: str = "not looked for yet"
    permanent: bool = False
    attempts: int = 0
    tried_at: float = 0.0
    path: str = ""
    whole: bool = False
    bytes: int = 0
    modified_ns: int = 0
    sha256: str = ""
    facts: dict[str, Any] = field(default_factory=lambda: dict(NO_FACTS))
    prober: str = ""

    @property
    def status(self) -> str:
        return "failed" if self.reason else "ok"

    def failed(self, reason: str, detail: str, permanent: bool = False) -> Row:
        """-> the same video without a usable file, for this reason; what was fetched and when stays."""
        text = " ".join(detail.split())[:300]
        return replace(Row(self.id), reason=reason, detail=text, permanent=permanent, attempts=self.attempts,
                       tried_at=self.tried_at)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a ledger that can't be written (a full, read-only or forbidden disk) into a PipelineError."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise PipelineError(
            f"{path}: could not be written: {error}; expected room and the right to write there: free some, or set "
            "[paths] root"
        ) from error


class Ledger:
    """Rows by video id. Usable from several threads; every ``put`` is on disk when it returns."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.lock = threading.Lock()
        with writing(path):
            self.connection = sqlite3.connect(path, check_same_thread=False, timeout=60)
        try:
            with writing(path):
                self.connection.executescript(TABLES)
            cells = self.connection.execute(f"SELECT {', '.join(COLUMNS)} FROM video")
            self.rows = {row.id: row for row in map(_from_table, cells)}
        except (sqlite3.DatabaseError, PipelineError) as error:
            self.connection.close()
            if isinstance(error, PipelineError):
                raise
            raise unreadable(path, error) from error

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind, value, trace) -> None:
        self.connection.close()

    def get(self, video_id: str) -> Row:
        """-> the row of a video, a fresh one if it has none yet."""
        return self.rows.get(video_id) or Row(video_id)

    def put(self, *rows: Row) -> None:
        """Replace the rows of these videos, in one transaction."""
        marks = ", ".join("?" * len(COLUMNS))
        changed = [row for row in rows if self.rows.get(row.id) is not row]
        with writing(self.path), self.lock, self.connection:
            self.connection.executemany(
                f"INSERT OR REPLACE INTO video ({', '.join(COLUMNS)}) VALUES ({marks})", map(_to_table, changed)
            )
            self.rows.update({row.id: row for row in changed})

    def list_only(self, ids: Collection[str]) -> None:
        """Leave the videos that are not among ``ids`` out of all counts; what is known of them is kept for later."""
        gone = [(video_id,) for video_id in self.rows if video_id not in ids]
        with writing(self.path), self.lock, self.connection:
            self.connection.execute("DELETE FROM unlisted")
            self.connection.executemany("INSERT INTO unlisted VALUES (?)", gone)

    def names_in(self, archive: Path) -> frozenset[str] | None:
        """-> names (without suffix) of what an archive holds; None if it has changed or was never opened."""
        state = archive.stat()
        key = (str(archive.absolute()), state.st_size, state.st_mtime_ns)
        question = "SELECT names FROM archive WHERE path = ? AND bytes = ? AND modified_ns = ?"
        found = self.connection.execute(question, key).fetchone()
        return frozenset(json.loads(found[0])) if found else None

    def remember_names(self, archive: Path, names: Collection[str]) -> None:
        state = archive.stat()
        cells = (str(archive.absolute()), state.st_size, state.st_mtime_ns, json.dumps(sorted(names)))
        with writing(self.path), self.lock, self.connection:
            self.connection.execute("INSERT OR REPLACE INTO archive VALUES (?, ?, ?, ?)", cells)

    @property
    def rounds(self) -> int:
        """-> how often failed videos have been tried again."""
        found = self.connection.execute("SELECT value FROM state WHERE name = 'rounds'").fetchone()
        return found[0] if found else 0

    def count_round(self) -> None:
        with writing(self.path), self.lock, self.connection:
            self.connection.execute("INSERT OR REPLACE INTO state VALUES ('rounds', ?)", (self.rounds + 1,))


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A ledger to be asked. Opened for writing where that is allowed: a run that was killed while it wrote left a
    journal, which has to be rolled back first."""
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=60)) as connection:
        try:
            with contextlib.suppress(sqlite3.OperationalError):  # a ledger of before a table came, or one of others
                connection.executescript(TABLES)
            yield connection
        except sqlite3.DatabaseError as error:
            raise unreadable(path, error) from error


def tried(path: Path) -> tuple[int, list[Row]]:
    """-> rounds of a ledger, and its listed failed rows that were tried, without file and facts.

    Quick for large ledgers: completeness is asked for often. No ledger, no rounds and no rows.
    """
    if not path.is_file():
        return 0, []
    names = ("id", "reason", "permanent", "attempts", "tried_at")
    with reading(path) as connection:
        rounds = connection.execute("SELECT value FROM state WHERE name = 'rounds'").fetchone()
        cells = connection.execute(f"SELECT {', '.join(names)} FROM video WHERE tried_at > 0 AND reason <> '' {LISTED}")
        rows = [Row(**dict(zip(names, row, strict=True))) for row in cells]
    return rounds[0] if rounds else 0, rows


def usable(path: Path) -> tuple[int, float]:
    """-> number of listed videos that can be used, and the mean size in bytes of their files."""
    if not path.is_file():
        return 0, 0.0
    with reading(path) as connection:
        question = f"SELECT count(*), avg(bytes) FROM video WHERE reason = '' {LISTED}"
        count, mean = connection.execute(question).fetchone()
    return count, mean or 0.0


def unreadable(path: Path, error: Exception) -> PipelineError:
    return PipelineError(
        f"{path}: {error}; expected the ledger of this dataset's acquisition: move the file away and run again "
        "(files that were fetched are found again)"
    )


def _to_table(row: Row) -> tuple:
    return tuple(
        json.dumps(row.facts) if name == "facts" else row.status if name == "status" else getattr(row, name)
        for name in COLUMNS
    )


def _from_table(cells: tuple) -> Row:
    values = dict(zip(COLUMNS, cells, strict=True))
    del values["status"]
    values.update(facts=json.loads(values["facts"]), permanent=bool(values["permanent"]), whole=bool(values["whole"]))
    return Row(**values)
