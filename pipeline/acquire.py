"""Acquisition: which of a dataset's videos are on this machine, and what they are.

Sources, in the order tried: the path that the manifest names; folders that the user names; what was fetched or
unpacked before; archives; single videos by yt-dlp. The ledger remembers all tries, the artefact is a snapshot of it. A
video that can't be had or opened is a row with a reason, never an error.
"""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline import archives, demo, fetching, schemas, snapshot
from pipeline.datasets import Dataset, Video, dataset_named
from pipeline.errors import SettingsError, VideoError
from pipeline.fetching import FetchSettings
from pipeline.h5 import Output, read
from pipeline.ledger import Ledger, Row, tried, usable
from pipeline.progress import Progress
from pipeline.tables import read_table, write_table

if TYPE_CHECKING:
    from pipeline.media import MediaFacts

LONGEST_WAIT_S = 30 * 86400.0
# Consecutive refusals to serve us at this pace after which the rest of the run leaves the host in peace.
THROTTLED_LIMIT = 3
# A fetched file with one of these is removed and fetched again: the transfer was at fault, or an error page came.
REFETCH = ("empty", "not_media", "truncated")
PROBE_LIMIT_S = 30.0
PROBE_MEMORY_MB = 4096


@dataclass(frozen=True)
class AcquireSettings:
    """[acquire] ``max_failed_share``: a run stops if a larger share of the videos (0 to 1) can't be used.

    ``folders``: folders that already hold videos, in any layout, found by name, never changed. ``archives``: zip, tar
    or rar files to take videos from. ``download``: whether to fetch what is in neither; false: only the user's own
    files. ``retry``: which failed videos a run tries again: transient, all or none. ``retry_after_s``: wait before a
    second try, doubled for each further one. ``video_url``: where single videos are, with {id}. ``format``: yt-dlp's
    choice of streams. ``concurrent``: videos fetched at a time. ``sleep_s``: pause before each. ``rate_limit_kb_s``:
    0: none. ``timeout_s``: of a connection that says nothing. ``tries``: per video and run. ``cookies``: file in
    Netscape format. ``proxy``: URL. ``download_archive``: yt-dlp's own list of what is done.
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
        for name in ("folders", "archives"):
            for path in getattr(self, name):
                if not Path(path).expanduser().exists():
                    raise SettingsError(f"[acquire] {name}: found no {path}, expected it to exist: check the path")

    @property
    def fetch(self) -> FetchSettings:
        return FetchSettings(
            self.video_url, self.format, self.timeout_s, self.tries, self.sleep_s, self.rate_limit_kb_s,
            self.cookies, self.proxy, self.download_archive,
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
        ledger.keep({video.id for video in videos})
        again = retries_due(ledger.rows.values(), settings)
        found = find(declared, videos, settings.folders, store)
        if settings.archives or (settings.download and any(source.kind == "archive" for source in declared.sources)):
            found |= take_from_archives(declared, [v for v in videos if v.id not in found], settings, store)
        inspect_all(dataset, videos, found, ledger)
        if settings.download:
            fetch_missing(declared, [v for v in videos if v.id not in found], settings, store, ledger)
        if again:
            ledger.count_round()
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
        for path in sorted(walk(Path(name).expanduser())):
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
    published = sum(source.bytes for source in declared.sources if source.kind == "archive")
    return waiting, (waiting * mean_bytes if here else published)


def retries_due(rows: Iterable[Row], settings: AcquireSettings) -> bool:
    """-> whether a video that was tried in an earlier run is to be tried again in this one."""
    return settings.download and any(row.tried_at and due(row, settings) for row in rows)


# Files that are here.


def walk(folder: Path) -> Iterator[Path]:
    """-> all files below ``folder`` (or the file itself), hidden ones left out."""
    if folder.is_file():
        yield folder
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(parent, name) for name in names if not name.startswith("."))


# Video id -> its file, and whether the video has to be cut from it.
Found = dict[str, tuple[Path, bool]]


def find(dataset: Dataset, videos: Iterable[Video], folders: Iterable[str | Path], store: Path) -> Found:
    """-> the files of those videos that are on this machine."""
    here: dict[str, Path] = {}
    for folder in (*folders, store / "videos"):
        for path in sorted(walk(Path(folder).expanduser().absolute())):
            if path.suffix.lower() not in (".part", ".ytdl", ".json", ".txt", ".csv"):
                here.setdefault(path.stem, path)
    found: Found = {}
    for video in videos:
        scheme, _, key = video.source.partition(":")
        if video.source.startswith("/"):
            found[video.id] = (Path(video.source), False)
        elif scheme == "demo":
            found[video.id] = (demo_folder(store, int(key)) / video.id, False)
        else:
            clips = [here[name] for name in dataset.clip_names(video) if name in here]
            wholes = [here[name] for name in dataset.whole_names(video) if name in here]
            if clips:
                found[video.id] = (clips[0], False)
            elif wholes and not math.isnan(video.start_s):
                found[video.id] = (wholes[0], True)
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


def inspect_all(dataset: str, videos: list[Video], found: Found, ledger: Ledger) -> None:
    """Bring the ledger's rows of all videos up to date with the files that were found."""

    def look(video: Video) -> Row:
        before = ledger.get(video.id)
        if video.id in found:
            return hashed(before, *found[video.id])
        nowhere = "in none of the folders and archives"
        known = not before.path and (before.tried_at or before.detail == nowhere)
        return before if known else before.failed("not_found", nowhere)

    threads = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    with Progress(f"look for videos of {dataset}", len(videos)) as progress, threads as pool:
        rows = kept(pool.map(look, videos), ledger, progress)
    new = [row for row in rows if row.path and not row.prober]
    with Progress(f"look at videos of {dataset}", len(new)) as progress:
        kept(probed(new), ledger, progress)


def kept(rows: Iterable[Row], ledger: Ledger, progress: Progress) -> list[Row]:
    """Put rows into the ledger as they come, many at a time; -> all of them."""
    every: list[Row] = []
    stored = 0
    for row in rows:
        every.append(row)
        progress.advance()
        if len(every) - stored == 500:
            ledger.put(*every[stored:])
            stored = len(every)
    ledger.put(*every[stored:])
    return every


def hashed(before: Row, path: Path, whole: bool) -> Row:
    """-> the row of a video with size and checksum of its file, still to be probed (``prober`` is empty).

    A file that has not changed since the same prober looked at it is not read again: its row comes back as it was.
    """
    try:
        state = path.stat()
        now = (str(path), state.st_size, state.st_mtime_ns, prober())
        if (before.path, before.bytes, before.modified_ns, before.prober) == now:
            return before if before.whole == whole else replace(before, whole=whole)
        sha256 = file_sha256(path)
    except OSError as error:
        return before.failed("not_found", f"{path}: {error.strerror}")
    return replace(before.failed("", ""), path=str(path), whole=whole, bytes=state.st_size,
                   modified_ns=state.st_mtime_ns, sha256=sha256)


def prober() -> str:
    """-> version of what reads headers."""
    return f"av {metadata.version('av')}"


def probed(rows: list[Row]) -> Iterator[Row]:
    """-> the rows with probe facts of their files, or the reason why they can't be used, in the same order."""
    for row, facts in zip(rows, probe_files([Path(row.path) for row in rows]), strict=True):
        if isinstance(facts, VideoError):
            detail = " ".join(facts.detail.split())[:300]
            yield replace(row, reason=facts.reason, detail=detail, prober=prober())
        else:
            yield replace(row, facts=facts.columns(), prober=prober())


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


def file_sha256(path: Path) -> str:
    """-> hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


# Files that are elsewhere.


def take_from_archives(dataset: Dataset, missing: list[Video], settings: AcquireSettings, store: Path) -> Found:
    """Unpack what the archives hold of the missing videos; -> as ``find``, for those."""
    if not missing:
        return {}
    paths = [Path(path).expanduser() for path in settings.archives]
    published = [source for source in dataset.sources if source.kind == "archive"]
    if not paths and settings.download:
        if any(source.url.endswith(".rar") for source in published):
            archives.bsdtar()
        paths = [archives.download(s.url, store / s.url.rpartition("/")[2], s.bytes) for s in published]
    stems = {name for video in missing for name in (*dataset.clip_names(video), *dataset.whole_names(video))}
    for path in paths:
        archives.unpack(path, store / "videos", stems)
    return find(dataset, missing, (), store)


def run_started() -> float:
    """-> when this run began, in all of its processes: what was tried since is not due again, however long it takes."""
    return float(os.environ.setdefault("AVGZSL_RUN_STARTED", repr(time.time())))


def due(row: Row, settings: AcquireSettings) -> bool:
    """-> whether a video that is not here is to be fetched in this run: never tried, or its back-off is over."""
    if not row.reason:
        return False
    if not row.tried_at:
        return True
    if settings.retry == "none" or (row.permanent and settings.retry != "all"):
        return False
    wait = min(settings.retry_after_s * 2.0 ** max(row.attempts - 1, 0), LONGEST_WAIT_S)
    return run_started() - row.tried_at >= wait


def fetch_missing(
    dataset: Dataset, missing: list[Video], settings: AcquireSettings, store: Path, ledger: Ledger
) -> None:
    """Fetch, by yt-dlp, the videos whose turn it is; segments of one source share one file."""
    wanted: dict[str, list[Video]] = defaultdict(list)
    for video in missing:
        scheme, _, key = video.source.partition(":")
        if scheme == "youtube" and due(ledger.get(video.id), settings):
            wanted[key].append(video)
    if not wanted:
        return
    refusals = 0

    def work(key: str) -> tuple[str, fetching.Outcome | None]:
        nonlocal refusals
        if refusals >= THROTTLED_LIMIT:
            return key, None
        outcome = fetching.fetch(key, store / "videos", store / "partial", settings.fetch)
        refusals = refusals + 1 if outcome.throttled else 0
        return key, outcome

    threads = ThreadPoolExecutor(settings.concurrent)
    with Progress(f"fetch videos of {dataset.name}", len(wanted)) as progress, threads as pool:
        for key, outcome in pool.map(work, wanted):
            ledger.put(*(after_try(ledger.get(video.id), video, outcome) for video in wanted[key]))
            progress.advance()


def after_try(before: Row, video: Video, outcome: fetching.Outcome | None) -> Row:
    """-> the row of a video after a try to fetch the file it is cut from; None: it was not asked for after all."""
    if outcome is None:
        row = replace(before, tried_at=time.time())
        return row.failed("network", "not asked for: the host had refused too many others in this run")
    before = replace(before, attempts=before.attempts + 1, tried_at=time.time())
    if outcome.path is None:
        return before.failed(outcome.reason, outcome.detail, outcome.permanent)
    row = next(probed([hashed(replace(before, prober=""), outcome.path, whole=not math.isnan(video.start_s))]))
    if row.reason in REFETCH:
        outcome.path.unlink(missing_ok=True)
        return before.failed(row.reason, f"what the source sent: {row.detail}")
    return row
