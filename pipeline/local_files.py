"""Videos that are on this machine: found by their names in any layout, then read once each."""

from __future__ import annotations

import functools
import math
import os
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import demo
from pipeline.datasets import Dataset, Video
from pipeline.datasets.folder import NOT_VIDEOS
from pipeline.errors import VideoError
from pipeline.ledger import Ledger, Row
from pipeline.progress import Progress
from pipeline.storage import file_sha256

if TYPE_CHECKING:
    from pipeline.media import MediaFacts

PROBE_LIMIT_S = 30.0
PROBE_MEMORY_MB = 4096
NOWHERE = "in none of the folders and archives"
# How yt-dlp names files by itself: title, then the id in brackets.
TITLED = re.compile(r"\[([^\[\]]+)\]$")

ROWS_AT_A_TIME = 500

# A file that may hold a video, and whether the video has to be cut from it.
File = tuple[Path, bool]


def walk(folder: Path) -> Iterator[Path]:
    """-> all files below ``folder`` that may be videos (or the file itself), hidden ones left out."""
    if folder.is_file():
        yield folder
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() not in NOT_VIDEOS:
                yield Path(parent, name)


def find(
    dataset: Dataset, videos: Iterable[Video], folders: Iterable[str | Path], store: Path
) -> dict[str, list[File]]:
    """-> video id -> the files on this machine that may hold it, in the order of ``folders``, the store's own last.

    A file that holds just the video comes before one that it has to be cut from.
    """
    named: dict[str, list[Path]] = defaultdict(list)
    for folder in (*folders, store / "videos"):
        for path in sorted(walk(Path(folder).expanduser().absolute())):
            titled = TITLED.search(path.stem)
            for name in {path.stem, titled[1] if titled else path.stem}:
                named[name].append(path)
    found: dict[str, list[File]] = {}
    for video in videos:
        scheme, _, key = video.source.partition(":")
        if video.source.startswith("/"):
            found[video.id] = [(Path(video.source), False)]
        elif scheme == "demo":
            found[video.id] = [(demo_folder(store, int(key)) / video.id, False)]
        else:
            files = [(path, False) for name in dict.fromkeys(dataset.clip_names(video)) for path in named.get(name, ())]
            if not math.isnan(video.start_s):
                files += [(path, True) for name in dataset.whole_names(video) for path in named.get(name, ())]
            if files:
                found[video.id] = files
    return found


def demo_folder(store: Path, seed: int) -> Path:
    return store / "demo" / f"seed{seed}-generator{demo.GENERATOR_VERSION}"


def make_demo_videos(store: Path, videos: list[Video]) -> None:
    """Make what the demo dataset lacks; its sources read ``demo:<seed>``."""
    wanted: dict[int, list[str]] = defaultdict(list)
    for video in videos:
        if video.source.startswith("demo:"):
            wanted[int(video.source.partition(":")[2])].append(video.id)
    for seed, ids in wanted.items():
        with Progress("make demo videos", len(ids)) as progress:
            demo.write_videos(demo_folder(store, seed), seed, ids, progress.advance)


def look_at(dataset: str, videos: list[Video], found: dict[str, list[File]], ledger: Ledger) -> None:
    """Bring the ledger's rows up to date with the files that were found: of each video the first that can be used.

    Where none can, the row tells of the first, unless it tells of a try to fetch the video: that stays.
    """
    refused: dict[str, Row] = {}
    waiting, place = [video.id for video in videos], 0
    while waiting:
        here = [key for key in waiting if place < len(found.get(key, ()))]
        gone = [key for key in waiting if place >= len(found.get(key, ()))]
        ledger.put(*(settled(ledger.get(key), refused.get(key)) for key in gone))
        waiting, place, usable = [], place + 1, []
        with Progress(f"look at videos of {dataset}", len(here)) as progress:
            for row in read_files([(ledger.get(key), found[key][place - 1]) for key in here]):
                progress.advance()
                if row.reason:
                    refused.setdefault(row.id, row)
                    waiting.append(row.id)
                else:
                    usable.append(row)
                if len(usable) == ROWS_AT_A_TIME:
                    ledger.put(*usable)
                    usable.clear()
            ledger.put(*usable)


def settled(before: Row, refused: Row | None) -> Row:
    """-> the row of a video of which no file can be used; ``refused`` tells of the first one, if there is any."""
    tried = before.reason and before.tried_at and not before.path
    if refused:
        return before if tried else refused
    return before if tried or before.detail == NOWHERE else before.failed("not_found", NOWHERE)


def read_files(files: list[tuple[Row, File]]) -> Iterator[Row]:
    """-> for each (row so far, file) the row of that file: checksum and probe facts, or why it can't be used.

    A file that has not changed since the same prober looked at it is not read again: its row comes back as it was.
    """
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        rows = list(pool.map(lambda pair: unread(*pair), files))
        new = [row for row in rows if row.path and not row.prober]
        results = zip(probe_files([Path(row.path) for row in new]), pool.map(checksum, new), strict=True)
        for row in rows:
            yield probed(row, *next(results)) if row.path and not row.prober else row


def read_file(path: Path) -> Row:
    """-> a row without id of one file: checksum and probe facts, or why it can't be used."""
    return next(read_files([(Row(""), (path, False))]))


def unread(before: Row, file: File) -> Row:
    """-> the row of a video with this file, still to be read (``prober`` is empty), or ``before`` if it is known."""
    path, whole = file
    try:
        state = path.stat()
    except OSError as error:
        return before.failed("not_found", f"{path}: {error.strerror}")
    now = (str(path), state.st_size, state.st_mtime_ns, prober())
    if (before.path, before.bytes, before.modified_ns, before.prober) == now:
        return before if before.whole == whole else replace(before, whole=whole)
    return replace(before.failed("", ""), path=str(path), whole=whole, bytes=state.st_size,
                   modified_ns=state.st_mtime_ns)


@functools.cache
def prober() -> str:
    """-> version of what reads headers."""
    return f"av {metadata.version('av')}"


def checksum(row: Row) -> str | OSError:
    try:
        return file_sha256(Path(row.path))
    except OSError as error:
        return error


def probed(row: Row, facts: MediaFacts | VideoError, sha256: str | OSError) -> Row:
    """-> the row with what was read of its file.

    A reader that hung may have waited for the disk: the video is looked at again, like one whose transfer failed.
    """
    if isinstance(sha256, OSError):
        return row.failed("not_found", f"{row.path}: {sha256.strerror}")
    if not isinstance(facts, VideoError):
        return replace(row, sha256=sha256, facts=facts.columns(), prober=prober())
    failed = replace(row, sha256=sha256, reason=facts.reason, detail=" ".join(facts.detail.split())[:300])
    if facts.reason == "decoder_hung":
        return replace(failed, attempts=row.attempts + 1, tried_at=time.time())
    return replace(failed, prober=prober())


def probe_files(paths: list[Path]) -> Iterator[MediaFacts | VideoError]:
    """Read headers in child processes: a file may hang or crash its reader."""
    from pipeline import decode_pool
    from pipeline.media import probe

    def job(path: Path) -> decode_pool.Job:
        try:
            return (yield decode_pool.Call(probe, (path,), PROBE_LIMIT_S))
        except VideoError as error:
            return error

    if paths:
        processes = min(4, os.cpu_count() or 1, 1 + len(paths) // 100)
        yield from decode_pool.run(map(job, paths), processes, PROBE_MEMORY_MB, ahead=8)
