"""Small artefacts with known content, for tests of the stages between features and training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline import h5, schemas


def write_manifest(path: Path, videos: Sequence[tuple[str, str]], groups: Mapping[str, str] | None = None) -> Path:
    """``videos``: (id, class name); ``groups``: id -> recording, its own id where it has none. -> path"""
    videos = sorted(videos)
    names = sorted({name for _, name in videos})
    with h5.Output(path, schemas.MANIFEST).create() as out:
        out.write("class_name", names)
        out.write("id", [video for video, _ in videos])
        out.write("class_index", np.array([names.index(name) for _, name in videos], dtype=np.int32))
        out.write("source", [f"test:{video}" for video, _ in videos])
        out.write("group", [(groups or {}).get(video, video) for video, _ in videos])
        out.write("start_s", np.full(len(videos), np.nan))
        out.write("end_s", np.full(len(videos), np.nan))
        out.write("shard", np.zeros(len(videos), dtype=np.int32))
    return path


def write_clip_features(
    path: Path,
    clips: Mapping[str, tuple[np.ndarray, np.ndarray]],
    failed: Mapping[str, str] | None = None,
    **attributes: object,
) -> Path:
    """``clips``: id -> (video clips, audio clips), each (clips, width); ``failed``: id -> reason. -> path"""
    ids = sorted([*clips, *(failed or {})])
    widths = {k: next((pair[k].shape[1] for pair in clips.values()), 3) for k in (0, 1)}
    with h5.Output(path, schemas.CLIP_FEATURES, attributes).create() as out:
        out.write("id", ids)
        out.write("status", ["ok" if video in clips else "failed" for video in ids])
        out.write("reason", [(failed or {}).get(video, "") for video in ids])
        out.write("detail", ["made to fail" if video in (failed or {}) else "" for video in ids])
        for k, kind in enumerate(("video", "audio")):
            rows = [clips[video][k] if video in clips else np.empty((0, widths[k]), np.float32) for video in ids]
            counts = [len(row) for row in rows]
            out.write(f"{kind}/offsets", np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))
            out.write(f"{kind}/start_s", np.zeros(sum(counts)))
            out.write(f"{kind}/stop_s", np.ones(sum(counts)))
            out.write(f"{kind}/features", np.concatenate([*rows, np.empty((0, widths[k]), np.float32)]))
    return path


def write_word2vec(path: Path, vectors: Mapping[str, np.ndarray]) -> Path:
    """A word2vec binary file, written byte by byte. -> path"""
    size = len(next(iter(vectors.values())))
    rows = b"".join(word.encode() + b" " + np.asarray(row, "<f4").tobytes() + b"\n" for word, row in vectors.items())
    path.write_bytes(f"{len(vectors)} {size}\n".encode() + rows)
    return path


def write_acquired(path: Path, status: Mapping[str, str], sums: Mapping[str, str]) -> Path:
    """``status``: id -> reason, empty if acquired; ``sums``: id -> checksum."""
    ids = sorted(status)
    with h5.Output(path, schemas.ACQUIRED).create() as out:
        out.write("id", ids)
        out.write("status", ["failed" if status[video] else "ok" for video in ids])
        out.write("reason", [status[video] for video in ids])
        out.write("sha256", [sums.get(video, "") for video in ids])
        for column in schemas.ACQUIRED.columns:
            if column.name not in ("id", "status", "reason", "sha256", "shard_content"):
                empty = [""] * len(ids) if column.dtype == "str" else np.zeros(len(ids), column.dtype)
                out.write(column.name, empty)
        out.write("shard_content", ["x"])
    return path
