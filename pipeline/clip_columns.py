"""Clips on their way into a decoded shard: offsets and times of all videos, and blocks of one video's raw files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline import h5
from pipeline.windows import FrameClips, SoundClips

BLOCK_BYTES = 32 << 20


class ClipColumns:
    """Offsets and window times of one group, collected over the videos."""

    def __init__(self) -> None:
        self.offsets = [0]
        self.starts: list[np.ndarray] = []
        self.stops: list[np.ndarray] = []
        self.valid: list[np.ndarray] = []

    def add(self, clips: FrameClips | SoundClips | None) -> None:
        self.offsets.append(self.offsets[-1] + (0 if clips is None else len(clips.start_s)))
        if clips is not None:
            self.starts.append(clips.start_s)
            self.stops.append(clips.stop_s)
        if isinstance(clips, FrameClips):
            self.valid.append(clips.valid)

    def write(self, file: h5.Writer, group: str) -> None:
        file.write(f"{group}/offsets", np.array(self.offsets, np.int64))
        file.write(f"{group}/start_s", np.concatenate(self.starts) if self.starts else np.zeros(0))
        file.write(f"{group}/stop_s", np.concatenate(self.stops) if self.stops else np.zeros(0))


def frame_blocks(path: Path, clips: int, frames: int) -> Iterator[np.ndarray]:
    """Yield (some clips, T, 112, 112, 3) uint8 from a raw file, all of it in order."""
    row = frames * 112 * 112 * 3
    step = max(1, BLOCK_BYTES // row)
    with path.open("rb") as file:
        for start in range(0, clips, step):
            data = np.fromfile(file, np.uint8, min(step, clips - start) * row)
            yield data.reshape(-1, frames, 112, 112, 3)


def sound_blocks(path: Path, first: np.ndarray, samples: int) -> Iterator[np.ndarray]:
    """Yield (some clips, samples) float32 cut from a raw track at ``first``; silence beyond its ends."""
    step = max(1, BLOCK_BYTES // (samples * 4))
    with path.open("rb") as file:
        for start in range(0, len(first), step):
            block = np.zeros((min(step, len(first) - start), samples), np.float32)
            for row, position in zip(block, first[start:start + step].tolist(), strict=True):
                skipped = max(-position, 0)
                file.seek(max(position, 0) * 4)
                data = np.frombuffer(file.read(max(samples - skipped, 0) * 4), "<f4")
                row[skipped:skipped + len(data)] = data
            yield block
