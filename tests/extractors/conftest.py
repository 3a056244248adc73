"""Decoded shards of noise, and weights as they are published."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from extractors import registry
from pipeline import h5, schemas


def clips_of(name: str, count: int, seed: int = 0) -> np.ndarray:
    """-> clips of an extractor's kind: uint8 frames, or float32 samples in the scale that it expects."""
    line = registry.entry(name)
    rng = np.random.default_rng(seed)
    if line.modality == "video":
        return rng.integers(0, 256, (count, *line.clip), dtype=np.uint8)
    samples = rng.standard_normal((count, *line.clip))
    scale = 3000 if line.plan == "selavi_audio" else 0.1
    return (scale * samples).astype(np.float32)


def write_shard(
    path: Path,
    feature_set: str,
    clips_per_video: list[int],
    seed: int = 0,
    published: frozenset[str] = frozenset(),
    dataset: str = "demo",
) -> Path:
    """Write a decoded shard of noise: video k has ``clips_per_video[k]`` clips; 0: it failed, too_short."""
    names = registry.feature_set_named(feature_set)
    count = sum(clips_per_video)
    offsets = np.concatenate([[0], np.cumsum(clips_per_video)])
    failed = [clips == 0 for clips in clips_per_video]
    starts = np.concatenate([np.arange(clips, dtype=np.float64) for clips in clips_per_video] or [np.empty(0)])
    frames = clips_of(names.video, count, seed)
    with h5.Output(path, schemas.DECODED).create() as file:
        file.write("id", [f"video-{k}" for k in range(len(clips_per_video))])
        file.write("status", ["failed" if each else "ok" for each in failed])
        file.write("reason", ["too_short" if each else "" for each in failed])
        file.write("detail", ["0.4 s" if each else "" for each in failed])
        file.write("backend", ["" if each else "decord" for each in failed])
        for modality in ("video", "audio"):
            file.write(f"{modality}/offsets", offsets)
            file.write(f"{modality}/start_s", starts)
            file.write(f"{modality}/stop_s", starts + 1)
        file.write("video/frames", frames)
        file.write("video/frames_valid", np.full(count, frames.shape[1], np.int32))
        file.write("audio/samples", clips_of(names.audio, count, seed))
        plans = registry.plans(feature_set, published, dataset)
        file.attributes["frame_plan"], file.attributes["sound_plan"] = plans["video"], plans["audio"]
    return path


@pytest.fixture
def shard(tmp_path: Path) -> Callable[..., Path]:
    """-> function (feature set, clips per video, further arguments of ``write_shard``) -> path of a decoded shard."""
    return lambda feature_set, clips_per_video, **options: write_shard(
        tmp_path / f"{feature_set}-{len(list(tmp_path.iterdir()))}.h5", feature_set, clips_per_video, **options
    )
