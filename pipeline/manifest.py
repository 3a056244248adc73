"""The manifest: which videos and classes a dataset consists of, and which shard each video belongs to."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from pipeline.datasets import dataset_named
from pipeline.datasets.base import Video
from pipeline.errors import PipelineError
from pipeline.h5 import Output
from pipeline.tables import write_table

TABLE_COLUMNS = ("id", "class_name", "subset", "source", "group", "start_s", "end_s")


def shard_of(video_id: str, shards: int) -> int:
    """-> bucket 0..shards-1 of a video, by a hash of its id alone, the same on every machine and in every year."""
    return int.from_bytes(hashlib.sha256(video_id.encode()).digest()[:8], "big") % shards


def fingerprint(dataset: str, settings: Any) -> str:
    """-> text that changes whenever the same settings would give another manifest or other files; "" if never.

    Raises PipelineError where the dataset's own listing does.
    """
    declared = dataset_named(dataset)
    return declared.fingerprint(declared.chosen(settings))


def build(dataset: str, settings: Any, output: Output) -> None:
    """Write ``schemas.MANIFEST`` of a dataset, and beside it the same list as CSV, with the published subsets.

    Raises PipelineError for duplicate ids, classes that differ in case alone, and what the dataset's listing finds.
    """
    declared = dataset_named(dataset)
    settings = declared.chosen(settings)
    videos = sorted(declared.list_videos(settings), key=lambda video: video.id)
    check_unique(dataset, videos)
    classes = sorted({video.class_name for video in videos})
    check_case(dataset, classes)
    index = {name: row for row, name in enumerate(classes)}
    shards = declared.shards(settings)
    cells = ([getattr(video, name) for name in TABLE_COLUMNS] for video in videos)
    write_table(output.path.with_suffix(".csv"), TABLE_COLUMNS, cells)
    with output.create() as file:
        file.write("class_name", classes)
        file.write("id", [video.id for video in videos])
        file.write("class_index", np.array([index[video.class_name] for video in videos], dtype=np.int32))
        file.write("source", [video.source for video in videos])
        file.write("group", [video.group for video in videos])
        file.write("start_s", np.array([video.start_s for video in videos], dtype=np.float64))
        file.write("end_s", np.array([video.end_s for video in videos], dtype=np.float64))
        file.write("shard", np.array([shard_of(video.id, shards) for video in videos], dtype=np.int32))
        file.attributes["dataset"] = dataset
        file.attributes["shards"] = shards


def check_case(dataset: str, classes: list[str]) -> None:
    """Raise PipelineError if two classes differ in case alone: tables and word vectors take them for one."""
    folded: dict[str, str] = {}
    for name in classes:
        if folded.setdefault(name.casefold(), name) != name:
            raise PipelineError(
                f"dataset {dataset!r}: found the classes {folded[name.casefold()]!r} and {name!r}, expected names that "
                "differ in more than case: rename or merge them"
            )


def check_unique(dataset: str, videos: list[Video]) -> None:
    """Raise PipelineError if two of the videos, sorted by id, share one."""
    for first, second in zip(videos, videos[1:], strict=False):
        if first.id == second.id:
            raise PipelineError(
                f"dataset {dataset!r}: the video id {first.id!r} occurs twice (in class {first.class_name!r} and "
                f"{second.class_name!r}), expected unique ids: rename one of them"
            )
