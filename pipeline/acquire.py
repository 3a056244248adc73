"""Acquisition: which of a dataset's videos are on this machine, and what they are.

The artefact is a snapshot. A video that is not there or can't be opened is a row with a reason, never an error.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import demo, schemas
from pipeline.errors import PipelineError, SettingsError, VideoError
from pipeline.h5 import Output, read
from pipeline.progress import Progress

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


@dataclass(frozen=True)
class AcquireSettings:
    """[acquire] ``max_failed_share``: a run stops if a larger share of the videos (0 to 1) can't be used."""

    max_failed_share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.max_failed_share <= 1:
            raise SettingsError(f"[acquire] max_failed_share: found {self.max_failed_share}, expected 0 to 1")


@dataclass(frozen=True)
class Finding:
    """What is known about one video's file. ``reason`` is empty if it can be used."""

    path: str = ""
    reason: str = ""
    detail: str = ""
    bytes: int = 0
    sha256: str = ""
    facts: dict[str, Any] = field(default_factory=lambda: dict(NO_FACTS))


def inspect(path: Path) -> Finding:
    """-> size, checksum and probe facts of a file, or the reason why it can't be used."""
    from pipeline.media import probe

    if not path.is_file():
        return Finding(reason="not_found", detail=f"{path}: no such file")
    size, sha256 = path.stat().st_size, file_sha256(path)
    try:
        facts = probe(path).columns()
    except VideoError as error:
        return Finding(str(path), error.reason, one_line(error.detail), size, sha256)
    return Finding(str(path), "", "", size, sha256, facts)


def file_sha256(path: Path) -> str:
    """-> hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def one_line(text: str, limit: int = 300) -> str:
    return " ".join(text.split())[:limit]


def acquire(manifest_path: Path, dataset: str, settings: AcquireSettings, output: Output) -> None:
    """Write ``schemas.ACQUIRED``: where each video of the manifest is and what its file holds.

    Files that have to be made or fetched lie in ``videos/`` beside the artefact. Raises PipelineError if more than
    ``max_failed_share`` of the videos can't be used.
    """
    with read(manifest_path, schemas.MANIFEST) as manifest:
        columns = {name: manifest[name] for name in ("id", "source", "start_s", "end_s", "shard")}
        shards = manifest.attributes["shards"]
    ids, sources = columns["id"].tolist(), columns["source"].tolist()
    store = output.path.parent.absolute() / "videos"
    with Progress(f"acquire {dataset}", len(ids), "video") as progress:
        make_demo_videos(store, ids, sources)
        paths = [local_path(store, video_id, source) for video_id, source in zip(ids, sources, strict=True)]
        findings = []
        with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
            for finding in pool.map(inspect, paths):
                findings.append(finding)
                progress.advance()
    check_share(dataset, findings, settings)
    write_snapshot(columns, findings, shards, output)


def make_demo_videos(store: Path, ids: list[str], sources: list[str]) -> None:
    """Make what the demo dataset lacks; its sources read ``demo:<seed>``."""
    wanted: dict[int, list[str]] = defaultdict(list)
    for video_id, source in zip(ids, sources, strict=True):
        if source.startswith("demo:"):
            wanted[int(source.partition(":")[2])].append(video_id)
    for seed, names in wanted.items():
        demo.write_videos(demo_folder(store, seed), seed, names)


def demo_folder(store: Path, seed: int) -> Path:
    return store / f"seed{seed}-generator{demo.GENERATOR_VERSION}"


def local_path(store: Path, video_id: str, source: str) -> Path:
    """-> where the file of a video is expected."""
    if source.startswith("demo:"):
        return demo_folder(store, int(source.partition(":")[2])) / video_id
    return Path(source)


def check_share(dataset: str, findings: list[Finding], settings: AcquireSettings) -> None:
    """Raise PipelineError if too many videos can't be used."""
    failed = Counter(finding.reason for finding in findings if finding.reason)
    count = sum(failed.values())
    if count > settings.max_failed_share * len(findings):
        reasons = ", ".join(f"{reason} {number}" for reason, number in failed.most_common())
        raise PipelineError(
            f"dataset {dataset!r}: {count} of {len(findings)} videos can't be used ({reasons}), expected at most "
            f"{settings.max_failed_share:.0%}: mend the files or raise [acquire] max_failed_share"
        )


def write_snapshot(columns: dict[str, np.ndarray], findings: list[Finding], shards: int, output: Output) -> None:
    """Write ``schemas.ACQUIRED`` from the manifest's columns and one finding per video."""
    with output.create() as file:
        for name in ("id", "start_s", "end_s", "shard"):
            file.write(name, columns[name])
        file.write("status", ["failed" if finding.reason else "ok" for finding in findings])
        for name in ("reason", "detail", "sha256"):
            file.write(name, [getattr(finding, name) for finding in findings])
        file.write("path", ["" if finding.reason else finding.path for finding in findings])
        file.write("bytes", np.array([finding.bytes for finding in findings], dtype=np.int64))
        for name, missing in NO_FACTS.items():
            values = [finding.facts[name] for finding in findings]
            file.write(name, values if isinstance(missing, str) else np.array(values, dtype=type(missing)))
        file.write("shard_content", shard_contents(columns, findings, shards))


def shard_contents(columns: dict[str, np.ndarray], findings: list[Finding], shards: int) -> list[str]:
    """-> per shard, sha256 over what decoding it depends on: ids, file contents, reasons, cuts; not paths or times."""
    lines: dict[int, list[str]] = defaultdict(list)
    for row, finding in enumerate(findings):
        start, end = (float(columns[name][row]) for name in ("start_s", "end_s"))
        facts = [str(columns["id"][row]), finding.sha256, finding.reason, repr(start), repr(end)]
        lines[int(columns["shard"][row])].append(json.dumps(facts))
    return [hashlib.sha256("\n".join(sorted(lines[shard])).encode()).hexdigest() for shard in range(shards)]
