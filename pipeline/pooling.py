"""Clip features of all shards to one row per video: the mean over the video's clips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import h5, schemas
from pipeline.errors import ArtefactError
from pipeline.progress import Progress

BLOCK_ROWS = 4096
# What the shards say about the extractors; it must be the same in all of them.
CARRIED = ("feature_set", "weights", "extractors", "precision")


@dataclass(frozen=True)
class ShardRows:
    """Where the videos of one shard go: ``rows[i]`` is the output row of the shard's i-th video, -1 if it failed."""

    path: Path
    rows: np.ndarray


def mean_over_clips(features: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Mean of the clips of each video.

    ``features`` (clips, width) float32, ``offsets`` (videos + 1) int64, ascending from 0 to clips -> (videos, width)
    float32, NaN for a video without clips.

    The sum runs over the clips in order, in float32, and is divided once: to the bit what ``numpy.average`` gives for
    the rows of one video, as the released extraction code calls it. VGGish's 8-bit codes, which it averages in float64,
    come out the same: their sums are exact in float32 up to 65,793 clips.
    """
    counts = np.diff(offsets)
    total = np.zeros((len(counts), features.shape[1]), dtype=np.float32)
    # By position in the video and not by video: as few steps as the longest video has clips.
    order = np.argsort(-counts, kind="stable")
    descending = counts[order]
    for position in range(int(counts.max(initial=0))):
        longer = order[: np.searchsorted(-descending, -position, side="left")]
        total[longer] += features[offsets[longer] + position]
    with np.errstate(invalid="ignore"):
        return total / counts[:, None].astype(np.float32)


def pool(clip_feature_paths: Sequence[Path], output: h5.Output) -> None:
    """Average every video over its clips and collect all shards, videos sorted by id.

    Raises ArtefactError if there is no shard, if a video is in two shards, or if shards come from different extractors.
    """
    if not clip_feature_paths:
        raise ArtefactError("PoolFeatures: found no shard of clip features, expected at least one; run ExtractFeatures")
    shards, ids, failures, shared = _plan(clip_feature_paths)
    # A shard without any clip may not know the width.
    typical = next((shard for shard in shards if (shard.rows >= 0).any()), shards[0])
    with h5.read(typical.path, schemas.CLIP_FEATURES) as file:
        widths = {kind: file.shape(f"{kind}/features")[1] for kind in ("video", "audio")}
    means = {kind: np.empty((len(ids), width), dtype=np.float32) for kind, width in widths.items()}
    clips = {kind: np.zeros(len(ids), dtype=np.int32) for kind in widths}
    with Progress("pool", len(ids)) as progress:
        for shard in shards:
            _pool_shard(shard, means, clips)
            progress.advance(int((shard.rows >= 0).sum()))
    with output.create() as out:
        out.write("id", ids)
        for kind in ("video", "audio"):
            for block in _blocks(means[kind]):
                out.append(kind, block)
            out.write(f"{kind}_clips", clips[kind])
        for column, values in zip(("failed_id", "failed_reason", "failed_detail"), failures, strict=True):
            out.write(column, values)
        out.attributes.update(shared)


def _plan(paths: Sequence[Path]) -> tuple[list[ShardRows], list[str], list[list[str]], dict[str, Any]]:
    """-> (shards with output rows, sorted ids with features, failures as columns, attributes that all shards share)."""
    pooled: list[tuple[str, int, int]] = []
    failed: list[tuple[str, str, str]] = []
    sizes: list[int] = []
    shared: dict[str, Any] = {}
    for index, path in enumerate(paths):
        with h5.read(path, schemas.CLIP_FEATURES) as file:
            columns = [file[name] for name in ("id", "status", "reason", "detail")]
            clips = np.minimum(np.diff(file["video/offsets"]), np.diff(file["audio/offsets"]))
            if (columns[1] == "ok").any() or len(paths) == 1:  # a shard without any clip has loaded nothing
                shared = _same_facts(file, shared)
        sizes.append(len(columns[0]))
        for row, (video, status, reason, detail) in enumerate(zip(*columns, strict=True)):
            if status == "ok" and clips[row] == 0:
                failed.append((str(video), "too_short", "no whole window of both picture and sound"))
            elif status == "ok":
                pooled.append((str(video), index, row))
            else:
                failed.append((str(video), str(reason), str(detail)))
    _refuse_repeats([entry[0] for entry in pooled] + [entry[0] for entry in failed])
    pooled.sort()
    shards = [ShardRows(Path(path), np.full(size, -1)) for path, size in zip(paths, sizes, strict=True)]
    for target, (_, index, row) in enumerate(pooled):
        shards[index].rows[row] = target
    failures = [list(column) for column in zip(*sorted(failed), strict=True)] or [[], [], []]
    return shards, [entry[0] for entry in pooled], failures, shared


def _same_facts(file: h5.Artefact, known: dict[str, Any]) -> dict[str, Any]:
    facts = {key: file.attributes.get(key) for key in CARRIED}
    if not known or facts == known:
        return facts
    key = next(key for key in CARRIED if facts[key] != known[key])
    raise ArtefactError(
        f"{file.path}: found {key} = {facts[key]!r}, expected {known[key]!r} as in the shards before; they come from "
        "different extractors: delete the odd ones and run ExtractFeatures again"
    )


def _refuse_repeats(ids: list[str]) -> None:
    seen: set[str] = set()
    for video in ids:
        if video in seen:
            raise ArtefactError(
                f"video {video!r} is in two shards, expected one; they come from different manifests: delete the clip "
                "features of this dataset and run ExtractFeatures again"
            )
        seen.add(video)


def _pool_shard(shard: ShardRows, means: dict[str, np.ndarray], clips: dict[str, np.ndarray]) -> None:
    here = shard.rows >= 0
    if not here.any():
        return
    with h5.read(shard.path, schemas.CLIP_FEATURES) as file:
        for kind, mean in means.items():
            offsets, features = file[f"{kind}/offsets"], file[f"{kind}/features"]
            if features.shape[1] != mean.shape[1]:
                raise ArtefactError(
                    f"{shard.path}: found {kind} features of width {features.shape[1]}, expected {mean.shape[1]} as in "
                    "the other shards; delete the odd one and run ExtractFeatures again"
                )
            mean[shard.rows[here]] = mean_over_clips(features, offsets)[here]
            clips[kind][shard.rows[here]] = np.diff(offsets)[here]


def _blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Rows in blocks, at least one: hashing makes a copy of what it gets."""
    for start in range(0, max(len(array), 1), BLOCK_ROWS):
        yield array[start : start + BLOCK_ROWS]
