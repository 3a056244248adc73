"""The user's own videos: one sub-folder per class, any container."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.datasets.base import Dataset, Video
from pipeline.errors import PipelineError
from pipeline.tables import identity, read_table

MINIMUM_VIDEOS = 4
MINIMUM_CLASSES = 4
# Files that nobody takes for a video; anything else is tried, and recorded with a reason if it can't be read.
NOT_VIDEOS = frozenset({
    ".txt", ".md", ".csv", ".tsv", ".json", ".xml", ".yaml", ".yml", ".html", ".htm", ".pdf", ".jpg",
    ".jpeg", ".png", ".bmp", ".webp", ".srt", ".vtt", ".ass", ".sub", ".nfo", ".log", ".zip", ".tar",
    ".gz", ".rar", ".7z", ".wav", ".mp3", ".flac", ".npy", ".npz", ".h5", ".pkl", ".py", ".sh",
    ".db", ".ini", ".part", ".ytdl",
})


@dataclass(frozen=True)
class FolderSettings:
    """[folder] ``videos``: folder with one sub-folder of videos per class; a sub-folder's name is the class's name.

    ``groups``: CSV file with the columns video_id,group, for videos that are cut from one recording; a video's id is
    its path below ``videos``, without the suffix.
    """

    videos: str = ""
    groups: str = ""


def video_files(settings: FolderSettings) -> list[tuple[str, Path]]:
    """-> (class name, path) of every candidate file, sorted. Hidden files and those of NOT_VIDEOS are left out.

    Raises PipelineError if the folder is not named, not there, or holds no sub-folder.
    """
    if not settings.videos:
        raise PipelineError("[folder] videos is empty, expected a folder with one sub-folder per class: --videos DIR")
    root = Path(settings.videos).expanduser().absolute()
    if not root.is_dir():
        raise PipelineError(f"{root}: no such folder, expected one sub-folder of videos per class: check --videos")
    classes = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not classes:
        raise PipelineError(f"{root} has no sub-folders, expected one sub-folder of videos per class")
    return [(folder.name, path) for folder in classes for path in _files_below(folder)]


def _files_below(folder: Path) -> list[Path]:
    """-> candidate files at any depth, sorted. Links are followed, but no folder is entered twice."""
    found: list[Path] = []
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(parent, name)
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() not in NOT_VIDEOS
        ]
    return sorted(found)


def list_videos(settings: FolderSettings) -> list[Video]:
    """-> the folder's videos; the id is the path below the folder, without the suffix. Groups are those of the table.

    Raises PipelineError: two files with one id, a name that is not UTF-8, too few classes, a class with too few videos.
    """
    root = Path(settings.videos).expanduser().absolute()
    paths: dict[str, Path] = {}
    of_class: dict[str, list[Video]] = defaultdict(list)
    for folder_name, path in video_files(settings):
        try:
            str(path).encode()
        except UnicodeEncodeError as error:
            raise PipelineError(f"{path!r}: the name is not valid UTF-8: rename the file") from error
        class_name = unicodedata.normalize("NFC", folder_name)
        video_id = unicodedata.normalize("NFC", path.relative_to(root).with_suffix("").as_posix())
        if video_id in paths:
            raise PipelineError(
                f"{path}: found a second file for the video id {video_id!r} (the other one: {paths[video_id].name}), "
                "expected one file per name: keep or rename one of them"
            )
        paths[video_id] = path
        of_class[class_name].append(Video(video_id, class_name, source=str(path), group=video_id))
    _check_sizes(root, of_class, {unicodedata.normalize("NFC", entry.name) for entry in _class_folders(root)})
    groups = _groups(settings, paths)
    return [
        replace(video, group=groups.get(video.id, video.id)) for name in sorted(of_class) for video in of_class[name]
    ]


def _groups(settings: FolderSettings, known: Mapping[str, Path]) -> dict[str, str]:
    """-> video id -> recording. Raises PipelineError for a video that is not in the folder."""
    if not settings.groups:
        return {}
    table = Path(settings.groups).expanduser()
    rows = {
        unicodedata.normalize("NFC", row["video_id"]): row["group"]
        for row in read_table(table, ("video_id", "group")) if row["group"]
    }
    unknown = [video for video in rows if video not in known]
    if unknown:
        raise PipelineError(
            f"[folder] groups: {table}: found video {unknown[0]!r} ({len(unknown)} such rows), expected ids of videos "
            f"of the folder, such as {min(known)!r}"
        )
    return rows


def _class_folders(root: Path) -> list[Path]:
    return [entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")]


def _check_sizes(root: Path, of_class: dict[str, list[Video]], folders: set[str]) -> None:
    small = {name: len(of_class.get(name, ())) for name in sorted(folders)}
    small = {name: count for name, count in small.items() if count < MINIMUM_VIDEOS}
    if small:
        shown = ", ".join(f"{name!r} has {count}" for name, count in list(small.items())[:5])
        raise PipelineError(
            f"{root}: class {shown}{' and more' if len(small) > 5 else ''}; expected at least {MINIMUM_VIDEOS} videos "
            "per class, for training, validation and test: add videos or move the sub-folder away"
        )
    if len(folders) < MINIMUM_CLASSES:
        raise PipelineError(
            f"{root}: found {len(folders)} classes, expected at least {MINIMUM_CLASSES}: two to train on, one unseen "
            "in validation and one unseen in the test"
        )


def fingerprint(settings: FolderSettings) -> str:
    """-> digest of the files' names, sizes and modification times: additions, removals and edits change it."""
    root = Path(settings.videos).expanduser().absolute()
    digest = hashlib.sha256(identity(os.path.expanduser(settings.groups), "[folder] groups").encode())
    for _, path in video_files(settings):
        facts = path.stat() if path.exists() else None
        name = os.fsencode(path.relative_to(root))
        digest.update(name + b"\0" + (f"{facts.st_size} {facts.st_mtime_ns}\n" if facts else "gone\n").encode())
    return digest.hexdigest()


FOLDER = Dataset(
    name="folder",
    title="Your own videos",
    citation="none: your own videos",
    licence="yours",
    protocols=("corrected",),
    nominal_s=10.0,
    settings=FolderSettings,
    count_videos=lambda settings: len(video_files(settings)),
    list_videos=list_videos,
    fingerprint=fingerprint,
)
