"""What the three benchmark datasets have in common: their videos are those of the released split's lists."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline import published_files, published_split
from pipeline.datasets.base import Video
from pipeline.errors import PipelineError
from pipeline.tables import read_table

TABLES = Path(__file__).parent


@dataclass(frozen=True)
class PublishedSettings:
    """[ucf], [vggsound] ``upstream``: URL or folder (a clone) of the released lists, which are verified.

    ``table``: a CSV file with the columns video_id,class_name,subset in their place.
    """

    upstream: str = published_files.URL
    table: str = ""


def listed(dataset: str, expected: int, describe: Callable[[str, str], Video]) -> Callable[[Any], list[Video]]:
    """-> ``list_videos`` of a dataset: ``describe(video id, class name)`` of every row of its lists.

    A class written two ways is one class, by the name of the dataset's label table.
    It raises PipelineError if the lists can't be had, aren't the released ones, or hold another number of videos.
    """

    def list_videos(settings: PublishedSettings) -> list[Video]:
        names = {row["class_name"].casefold(): row["class_name"] for row in _labels(dataset)}
        with tempfile.TemporaryDirectory() as cache:
            if settings.table:
                split = published_split.read_split_table(Path(settings.table), dataset, ())
            else:
                split = published_split.load(dataset, (), settings.upstream, Path(cache))
        if not settings.table and len(split.classes) != expected:
            raise PipelineError(
                f"dataset {dataset!r}: found {len(split.classes)} videos in the released lists, expected {expected}: "
                f"check [{dataset}] upstream"
            )
        unknown = sorted({name for name in split.classes.values() if name.casefold() not in names})
        if unknown:
            raise PipelineError(
                f"dataset {dataset!r}: found class {unknown[0]!r} in the lists, expected one of its {len(names)} "
                f"classes: mend [{dataset}] table, or use --dataset folder for classes of your own"
            )
        return [
            replace(describe(video, names[name.casefold()]), subset=split.subsets.get(video, ""))
            for video, name in split.classes.items()
        ]

    return list_videos


def _labels(dataset: str) -> list[dict[str, str]]:
    return read_table(TABLES / f"{dataset}_labels.csv", ("class_name", "text_label"))


def counted(expected: int) -> Callable[[Any], int]:
    """-> ``count_videos`` of a dataset with that many videos, unless the user brings another list."""

    def count_videos(settings: PublishedSettings) -> int:
        return len(read_table(Path(settings.table), ("video_id",))) if settings.table else expected

    return count_videos


def fingerprint(settings: PublishedSettings) -> str:
    """-> content of the user's own list, "" for the released one: that is the same for ever."""
    return published_files.blob_id(Path(settings.table).read_bytes()) if settings.table else ""


def with_cuts(videos: list[Video], cuts: dict[str, tuple[float, float]]) -> list[Video]:
    """-> the videos with start and end (s) of those that ``cuts`` knows."""
    return [
        replace(video, start_s=cuts[video.id][0], end_s=cuts[video.id][1]) if video.id in cuts else video
        for video in videos
    ]
