"""Which videos a curated split leaves out before it draws anything, and why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline import h5, schemas
from pipeline.cuts import Videos
from pipeline.errors import SettingsError
from pipeline.label_texts import hint
from pipeline.split_settings import SplitSettings
from pipeline.tables import read_lines, read_table


def silent_videos(acquired_path: Path) -> frozenset[str]:
    """-> ids of the videos that were acquired and found to have no sound."""
    with h5.read(acquired_path, schemas.ACQUIRED) as file:
        return frozenset(file["id"][file["reason"] == "no_audio"].tolist())


def reasons(videos: Videos, settings: SplitSettings, silent: frozenset[str] = frozenset()) -> list[str]:
    """-> per video why it is left out, or empty.

    Raises SettingsError for an excluded class or category that does not exist, and a list of ids that names no video.
    """
    dropped = {name.casefold(): "excluded class" for name in excluded_classes(videos.class_names, settings)}
    for name, category in categories(settings, videos.class_names).items():
        if category in settings.exclude_categories:
            dropped.setdefault(name, f"excluded category {category}")
    listed = frozenset(read_lines(Path(settings.exclude_ids), "[split] exclude_ids", "video id")
                       if settings.exclude_ids else ())
    if listed and listed.isdisjoint(videos.ids) and listed.isdisjoint(videos.groups):
        raise SettingsError(
            f"[split] exclude_ids: {settings.exclude_ids}: found none of its {len(listed)} ids (first: "
            f"{min(listed)!r}) in this dataset, expected ids of videos or recordings, such as {videos.ids[0]!r} or "
            f"{videos.groups[0]!r}"
        )
    found = []
    for video, group, index in zip(videos.ids, videos.groups, videos.class_index, strict=True):
        why = "on the list of excluded ids" if video in listed or group in listed else ""
        found.append(dropped.get(videos.class_names[index].casefold()) or ("no audio" if video in silent else why))
    return found


def excluded_classes(class_names: Sequence[str], settings: SplitSettings) -> list[str]:
    """-> the names that ``exclude_classes`` gives: an entry that is no class is a file with one name a line."""
    known = {name.casefold(): name for name in class_names}
    named: list[str] = []
    for entry in settings.exclude_classes:
        path = Path(entry).expanduser()
        is_file = entry.casefold() not in known and path.is_file()
        named += read_lines(path, "[split] exclude_classes", "class name") if is_file else [entry]
    for name in named:
        if name.casefold() not in known:
            raise SettingsError(
                f"[split] exclude_classes: found {name!r}, expected classes of this dataset, or a file with one a line "
                f"(for names with commas in them){hint(name, dict.fromkeys(class_names))}"
            )
    return named


def categories(settings: SplitSettings, class_names: Sequence[str]) -> dict[str, str]:
    """-> case-folded class name -> category."""
    rows = read_table(Path(settings.categories), ("class_name", "category")) if settings.categories else []
    found = {row["class_name"].casefold(): row["category"] for row in rows}
    for name in settings.exclude_categories:
        if name not in found.values():
            raise SettingsError(
                f"[split] exclude_categories: found {name!r}, expected one of {sorted(set(found.values()))} "
                "(set [split] categories to the table that holds it)"
            )
    return found
