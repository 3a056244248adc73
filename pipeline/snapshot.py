"""The acquired artefact: a frozen snapshot of the ledger, and the table of what is missing."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter, defaultdict

import numpy as np

from pipeline.datasets import Video
from pipeline.errors import PipelineError
from pipeline.h5 import Output
from pipeline.ledger import NO_FACTS, Row


def missing_table(videos: list[Video], rows: list[Row]) -> tuple[tuple[str, ...], list[tuple]]:
    """-> header and cells of missing.csv, by class and published subset."""
    cells = [
        (v.class_name, v.subset, v.id, row.reason, "yes" if row.permanent else "no", row.attempts, row.detail)
        for v, row in zip(videos, rows, strict=True)
        if row.reason
    ]
    return ("class_name", "subset", "video_id", "reason", "permanent", "attempts", "detail"), sorted(cells)


def check_share(dataset: str, rows: list[Row], max_failed_share: float) -> None:
    """Raise PipelineError if too many videos can't be used."""
    failed = Counter(row.reason for row in rows if row.reason)
    count = sum(failed.values())
    if count > max_failed_share * len(rows):
        reasons = ", ".join(f"{reason} {number}" for reason, number in failed.most_common())
        raise PipelineError(
            f"dataset {dataset!r}: {count} of {len(rows)} videos can't be used ({reasons}), expected at most "
            f"{max_failed_share:.0%}: name folders that hold them in [acquire] folders, mend the files, or "
            "raise [acquire] max_failed_share"
        )


def write_snapshot(videos: list[Video], rows: list[Row], shard: np.ndarray, shards: int, output: Output) -> None:
    """Write ``schemas.ACQUIRED`` from the manifest's videos, their shards (videos,) and the ledger's rows."""
    nothing = (math.nan, math.nan)
    cuts = [(video.start_s, video.end_s) if row.whole else nothing for video, row in zip(videos, rows, strict=True)]
    with output.create() as file:
        file.write("id", [video.id for video in videos])
        for name in ("status", "reason", "detail", "sha256"):
            file.write(name, [getattr(row, name) for row in rows])
        file.write("path", ["" if row.reason else row.path for row in rows])
        file.write("start_s", np.array([start for start, _ in cuts]))
        file.write("end_s", np.array([end for _, end in cuts]))
        file.write("bytes", np.array([row.bytes for row in rows], dtype=np.int64))
        file.write("shard", shard)
        for name, missing in NO_FACTS.items():
            values = [row.facts[name] for row in rows]
            file.write(name, values if isinstance(missing, str) else np.array(values, dtype=type(missing)))
        file.write("shard_content", shard_contents(videos, rows, cuts, shard, shards))
        file.attributes["failed"] = dict(Counter(row.reason for row in rows if row.reason))


def shard_contents(
    videos: list[Video], rows: list[Row], cuts: list[tuple[float, float]], shard: np.ndarray, shards: int
) -> list[str]:
    """-> per shard, sha256 over what decoding it depends on: ids, contents and cuts of the usable videos.

    Not paths, times or reasons: a video that can't be had for another reason than before changes no feature. The
    artefacts below keep the reason of their time; the snapshot and ``missing.csv`` have that of now.
    """
    lines: dict[int, list[str]] = defaultdict(list)
    for video, row, cut, bucket in zip(videos, rows, cuts, shard.tolist(), strict=True):
        if not row.reason:
            lines[bucket].append(json.dumps([video.id, row.sha256, *map(repr, cut)]))
    return [hashlib.sha256("\n".join(sorted(lines[k])).encode()).hexdigest() for k in range(shards)]
