"""Acquisition: which of a dataset's videos are on this machine, and what they are.

Sources, in the order tried: the path that the manifest names; folders that the user names; what was fetched or
unpacked before; archives; single videos by yt-dlp. The ledger remembers all tries, the artefact is a snapshot of it. A
video that can't be had or opened is a row with a reason, never an error.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import time
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline import archives, fetching, local_files, schemas, snapshot
from pipeline.datasets import Dataset, Source, Video, dataset_named
from pipeline.errors import SettingsError
from pipeline.fetching import FetchSettings
from pipeline.h5 import Output, read
from pipeline.ledger import Ledger, Row, tried, usable
from pipeline.local_files import find, look_at, make_demo_videos
from pipeline.progress import Progress
from pipeline.storage import sync
from pipeline.tables import read_table, write_table

# When this run began (s since 1970): set where its first process imports this, and inherited by those that it forks.
# What was tried since is not due again, what was looked at since is not looked at again, however long the run takes.
RUN_STARTED = time.time()
LONGEST_WAIT_S = 30 * 86400.0
# Consecutive refusals to serve us at this pace after which the rest of the run leaves the host in peace.
THROTTLED_LIMIT = 3
# A fetched file with one of these is removed and fetched again: the transfer was at fault, or an error page came.
REFETCH = ("empty", "not_media", "truncated")


@dataclass(frozen=True)
class AcquireSettings:
    """[acquire] ``max_failed_share``: a run stops if a larger share of the videos (0 to 1) can't be used.

    ``folders``: folders that already hold videos, in any layout, found by name, never changed. ``archives``: zip, tar
    or rar files to take videos from. ``download``: whether to fetch what is in neither; false: only the user's own
    files. ``retry``: which failed videos a run tries again: transient, all or none. ``retry_after_s``: wait before a
    second try, doubled for each further one. ``video_url``: where single videos are, with {id}. ``format``: yt-dlp's
    choice of streams. ``concurrent``: videos fetched at a time. ``sleep_s``: pause before each, a quarter of it before
    each request about it. ``rate_limit_kb_s``: 0: none. ``timeout_s``: of a connection that says nothing. ``tries``:
    per video and run. ``cookies``: file in Netscape format. ``proxy``: URL. ``download_archive``: a file that gets
    yt-dlp's line for each video that has come; it is written, never asked.
    """

    max_failed_share: float = 0.5
    folders: tuple[str, ...] = ()
    archives: tuple[str, ...] = ()
    download: bool = True
    retry: str = "transient"
    retry_after_s: float = 3600.0
    video_url: str = "https://www.youtube.com/watch?v={id}"
    format: str = fetching.FORMAT
    concurrent: int = 1
    sleep_s: float = 5.0
    rate_limit_kb_s: int = 0
    timeout_s: float = 20.0
    tries: int = 3
    cookies: str = ""
    proxy: str = ""
    download_archive: str = ""

    def __post_init__(self) -> None:
        checks = {
            "max_failed_share": (0 <= self.max_failed_share <= 1, "0 to 1"),
            "retry": (self.retry in fetching.RETRIES, f"one of {', '.join(fetching.RETRIES)}"),
            "retry_after_s": (self.retry_after_s >= 0, "0 or more"),
            "video_url": ("{id}" in self.video_url and "://" in self.video_url, "a URL with {id} in it"),
            "concurrent": (1 <= self.concurrent <= 64, "1 to 64"),
            "sleep_s": (self.sleep_s >= 0, "0 or more"),
            "rate_limit_kb_s": (self.rate_limit_kb_s >= 0, "0 (none) or more"),
            "timeout_s": (self.timeout_s > 0, "more than 0"),
            "tries": (self.tries >= 1, "1 or more"),
        }
        for name, (good, expected) in checks.items():
            if not good:
                raise SettingsError(f"[acquire] {name}: found {getattr(self, name)!r}, expected {expected}")
        named = {"folders": self.folders, "archives": self.archives, "cookies": (self.cookies,) * bool(self.cookies)}
        for name, paths in named.items():
            for path in paths:
                if not Path(path).expanduser().exists():
                    raise SettingsError(f"[acquire] {name}: found no {path}, expected it to exist: check the path")

    @property
    def fetch(self) -> FetchSettings:
        return FetchSettings(
            self.video_url, self.format, self.timeout_s, self.tries, self.sleep_s, self.rate_limit_kb_s,
            self.cookies, self.proxy,
        )


# The stage.


def acquire(manifest_path: Path, dataset: str, settings: AcquireSettings, output: Output) -> None:
    """Write ``schemas.ACQUIRED``: where each video of the manifest is and what its file holds.

    The ledger and all files that are made or fetched lie beside the artefact, as does ``<artefact>.missing.csv``: what
    is missing, by class and subset, with the reason.
    Raises PipelineError if more than ``max_failed_share`` can't be used.
    """
    declared = dataset_named(dataset)
    videos, shard, shards = read_manifest(manifest_path)
    store = output.path.parent.absolute()
    make_demo_videos(store, videos)
    with Ledger(store / "ledger.sqlite") as ledger:
        ledger.list_only({video.id for video in videos})
        rows = [ledger.get(video.id) for video in videos]
        if retries_due(rows, settings):  # before anything is tried: a run that is killed has begun its round
            ledger.count_round()
        look_at(dataset, videos, find(declared, videos, settings.folders, store), ledger)
        if settings.archives or (settings.download and any(source.kind == "archive" for source in declared.sources)):
            missing = [video for video in videos if ledger.get(video.id).reason]
            take_from_archives(declared, missing, settings, store, ledger)
            found = find(declared, missing, (), store)
            look_at(dataset, [video for video in missing if video.id in found], found, ledger)
        if settings.download:
            missing = [video for video in videos if ledger.get(video.id).reason]
            fetch_missing(declared, missing, settings, store, ledger)
            rows = [ledger.get(video.id) for video in missing]
            # What was due and had no source after all has had its turn, too.
            ledger.put(*(replace(row, tried_at=time.time()) for row in rows if row.tried_at and due(row, settings)))
        rows = [ledger.get(video.id) for video in videos]
    write_table(output.path.with_suffix(".missing.csv"), *snapshot.missing_table(videos, rows))
    snapshot.check_share(dataset, rows, settings.max_failed_share)
    snapshot.write_snapshot(videos, rows, shard, shards, output)


def read_manifest(path: Path) -> tuple[list[Video], np.ndarray, int]:
    """-> the manifest's videos in its order, the shard of each, the number of shards."""
    with read(path, schemas.MANIFEST) as file:
        names = file["class_name"][file["class_index"]]
        columns = (file["id"], names, file["source"], file["group"], file["start_s"], file["end_s"])
        videos = [Video(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]
        table = path.with_suffix(".csv")
        subsets = {row["id"]: row["subset"] for row in read_table(table, ("id", "subset"))} if table.is_file() else {}
        videos = [replace(video, subset=subsets.get(video.id, "")) for video in videos]
        return videos, file["shard"], file.attributes["shards"]


def fingerprint(dataset: str, settings: AcquireSettings, store: Path) -> str:
    """-> text that changes whenever another run could find or fetch more than the last one did, or not be content.

    ``store``: folder of the acquired artefact. It is the same before and after a run that did what there was to do.
    """
    digest = hashlib.sha256()
    for name in (*settings.folders, *settings.archives):
        for path in sorted(local_files.walk(Path(name).expanduser())):
            facts = path.stat() if path.exists() else None
            state = f"{facts.st_size} {facts.st_mtime_ns}" if facts else "gone"
            digest.update(os.fsencode(path) + f"\0{state}\n".encode())
    rounds, rows = tried(store / "ledger.sqlite")
    terms = f"{settings.max_failed_share} {settings.download}"
    return f"{digest.hexdigest()} {rounds + retries_due(rows, settings)} {terms}"


def outstanding(dataset: str, settings: AcquireSettings, store: Path) -> tuple[int, float]:
    """-> (videos that a run would look for and, where it may, fetch, bytes of them); 0 bytes if not known.

    From the ledger, once there is one; the size from the videos that are here, or the one the publisher states.
    """
    declared = dataset_named(dataset)
    if not settings.download or all(source.kind == "page" for source in declared.sources):
        return 0, 0.0
    here, mean_bytes = usable(store / "ledger.sqlite")
    _, rows = tried(store / "ledger.sqlite")
    total = declared.count_videos(declared.chosen(None))
    waiting = max(total - here - sum(not due(row, settings) for row in rows), 0)
    published = [source for source in declared.sources if source.kind == "archive"]
    if published:  # they come whole, for a single video, too
        return waiting, float(sum(s.bytes for s in published if waiting and not place_of(s, store).is_file()))
    return waiting, waiting * mean_bytes


def retries_due(rows: Iterable[Row], settings: AcquireSettings) -> bool:
    """-> whether a video that was tried in an earlier run is to be tried again in this one."""
    return any(row.tried_at and (settings.download or row.reason == "decoder_hung") and due(row, settings)
               for row in rows)


# Files that are elsewhere.


def take_from_archives(dataset: Dataset, missing: list[Video], settings: AcquireSettings, store: Path, ledger: Ledger):
    """Unpack, to the store, what the archives hold of the missing videos; an archive without any is opened once."""
    paths = [Path(path).expanduser() for path in settings.archives]
    published = [source for source in dataset.sources if source.kind == "archive"]
    if missing and not paths and settings.download:
        if any(source.url.endswith(".rar") for source in published):
            archives.bsdtar()
        paths = [archives.download(source.url, place_of(source, store), source.sha256) for source in published]
    wanted = {name for video in missing for name in (*dataset.clip_names(video), *dataset.whole_names(video))}
    wanted -= {path.stem for path in local_files.walk(store / "videos")}
    for path in paths:
        names = ledger.names_in(path)
        if wanted and (names is None or wanted & names):
            ledger.remember_names(path, archives.unpack(path, store / "videos", wanted))


def place_of(source: Source, store: Path) -> Path:
    """-> where a published archive is kept."""
    return store / source.url.rpartition("/")[2]


def due(row: Row, settings: AcquireSettings) -> bool:
    """-> whether a video that is not here is to be fetched in this run: never tried, or its back-off is over."""
    if not row.reason:
        return False
    if not row.tried_at:
        return True
    if settings.retry == "none" or (row.permanent and settings.retry != "all"):
        return False
    wait = min(settings.retry_after_s * 2.0 ** max(row.attempts - 1, 0), LONGEST_WAIT_S)
    return RUN_STARTED - row.tried_at >= wait


def fetch_missing(
    dataset: Dataset, missing: list[Video], settings: AcquireSettings, store: Path, ledger: Ledger
) -> None:
    """Fetch, by yt-dlp, the videos whose turn it is; segments of one source share one file."""
    wanted: dict[str, list[Video]] = defaultdict(list)
    for video in missing:
        scheme, _, key = video.source.partition(":")
        # Nobody knows which part of a longer file a video without a start is.
        known = not math.isnan(video.start_s) or key in dataset.clip_names(video)
        if scheme == "youtube" and known and due(ledger.get(video.id), settings):
            wanted[key].append(video)
    if not wanted:
        return
    refusals = 0

    def work(key: str) -> fetching.Outcome | None:
        nonlocal refusals
        if refusals >= THROTTLED_LIMIT:
            return None
        outcome = fetching.fetch(key, store / "partial", settings.fetch)
        refusals = refusals + 1 if outcome.throttled else 0
        return outcome

    pool = ThreadPoolExecutor(settings.concurrent)
    try:
        with Progress(f"fetch videos of {dataset.name}", len(wanted)) as progress:
            keys = {pool.submit(work, key): key for key in wanted}
            for future in as_completed(keys):
                key, outcome = keys[future], future.result()
                befores = [ledger.get(video.id) for video in wanted[key]]
                rows = after_try(befores, wanted[key], key, outcome, store)
                ledger.put(*rows)
                progress.advance()
                if settings.download_archive and outcome and not rows[0].reason:
                    note_done(Path(settings.download_archive).expanduser(), outcome.line)
    finally:
        pool.shutdown(cancel_futures=True)


def after_try(
    befores: list[Row], videos: list[Video], key: str, outcome: fetching.Outcome | None, store: Path
) -> list[Row]:
    """-> the rows of videos after a try to fetch the file that they are cut from; None: it was not asked for after all.

    A good file is moved to the store, at once and only then; one that the transfer has spoilt is removed.
    """
    now = time.time()
    if outcome is None:
        refused = "not asked for: the host had refused too many others in this run"
        return [replace(row if row.tried_at else row.failed("network", refused), tried_at=now) for row in befores]
    tried = [replace(row, attempts=row.attempts + 1, tried_at=now) for row in befores]
    if outcome.path is None:
        return [row.failed(outcome.reason, outcome.detail, outcome.permanent) for row in tried]
    file = local_files.read_file(outcome.path)
    scratch = store / "partial" / key
    if file.reason in REFETCH:
        shutil.rmtree(scratch, ignore_errors=True)
        return [row.failed(file.reason, f"what the source sent: {file.detail}") for row in tried]
    path = store / "videos" / f"{key}{outcome.path.suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    sync(outcome.path)
    os.replace(outcome.path, path)
    shutil.rmtree(scratch, ignore_errors=True)
    # Another try would bring the same file: the source has no other.
    lasting = bool(file.reason) and file.reason != "decoder_hung"
    return [
        replace(file, id=row.id, path=str(path), whole=not math.isnan(video.start_s), permanent=lasting,
                attempts=row.attempts, tried_at=row.tried_at)
        for row, video in zip(tried, videos, strict=True)
    ]


def note_done(path: Path, line: str) -> None:
    """Add a video to yt-dlp's list of what is done, for the user's own runs of it; whether a file is here says more."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"{line}\n")
