"""The released splits: lists of file names and of classes, fetched, verified and read as they are.

The class lists decide: a row counts only if its class stands in the subset's ``.txt``. For features whose extractors
have seen YouTube-8M (C3D/VGGish) that is the whole difference (``cls_split``): all its ``.csv`` files equal those of
``main_split``, only fewer unseen test classes are listed, the ones that YouTube-8M does not hold (9, 50 and 69 become
6, 48 and 64).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from pipeline import decision_tables, published_files
from pipeline.errors import PipelineError, SettingsError
from pipeline.schemas import SUBSETS
from pipeline.tables import read_table

FOLDERS = {"ucf": "UCF", "activitynet": "ActivityNet", "vggsound": "VGGSound"}
# Released features -> their class lists. Those of others are chosen by what their extractors have seen.
VARIANTS = {"selavi": "main_split", "c3d_vggish": "cls_split"}
FILES = {
    "train": "stage_1_train",
    "val_seen": "stage_1_val_seen",
    "val_unseen": "stage_1_val_unseen",
    "test_seen": "stage_2_test_seen",
    "test_unseen": "stage_2_test_unseen",
}
ROLE_OF = {"train": "train", "val_unseen": "val_unseen", "test_unseen": "test_unseen"}
# Table 1 of the paper, in the order of SUBSETS, and the unseen test videos of the supplement's table 8.
TABLE_1 = {
    "ucf": (3174, 353, 1467, 555, 1267),
    "activitynet": (9204, 1023, 4307, 1615, 4199),
    "vggsound": (70351, 7817, 3102, 9032, 3450),
}
# Classes tr, v(U), ts(U): of table 1, and of table 8.
CLASSES = {
    "ucf": ((30, 12, 9), (30, 12, 6)),
    "activitynet": ((99, 51, 50), (99, 51, 48)),
    "vggsound": ((138, 69, 69), (138, 69, 64)),
}
TABLE_8_TEST_UNSEEN = {"ucf": 865, "activitynet": 3530, "vggsound": 3149}


@dataclass(frozen=True)
class PublishedSplit:
    """``roles``: case-folded class name -> role; ``subsets``: video id -> subset; ``classes``: video id -> class name.

    ``dropped``: video id -> class, of rows whose class is in no list of their subset.
    """

    roles: dict[str, str]
    subsets: dict[str, str]
    classes: dict[str, str]
    dropped: dict[str, str]

    def counts(self) -> dict[str, int]:
        """-> videos per subset, in the order of SUBSETS."""
        found = Counter(self.subsets.values())
        return {name: found[name] for name in SUBSETS}


def load(dataset: str, pretraining: Collection[str], upstream: str, cache: Path) -> PublishedSplit:
    """The released split of a dataset for features with this pre-training; rest as in ``published_files.fetch``.

    Raises SettingsError for a dataset without one, PipelineError if a file can't be had or is not the released one.
    """
    if dataset not in FOLDERS:
        raise SettingsError(
            f"[split] kind: found published for dataset {dataset!r}, expected one with a released split "
            f"({', '.join(FOLDERS)}); use kind = curated"
        )
    variant = VARIANTS["c3d_vggish" if "youtube8m" in pretraining else "selavi"]
    folder = f"avgzsl_benchmark_datasets/{FOLDERS[dataset]}/class-split/{variant}"
    roles: dict[str, str] = {}
    split = PublishedSplit(roles, {}, {}, {})
    for subset, stem in FILES.items():
        listed = _class_list(published_files.fetch(f"{folder}/{stem}.txt", upstream, cache))
        if subset in ROLE_OF:
            roles.update({name.casefold(): ROLE_OF[subset] for name in listed})
        path = published_files.fetch(f"{folder}/{stem}.csv", upstream, cache)
        _read_rows(path, subset, {name.casefold() for name in listed}, split)
    return split


def _class_list(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _read_rows(path: Path, subset: str, listed: set[str], split: PublishedSplit) -> None:
    """Column order differs between the datasets: by name. Class names differ in case between UCF's files."""
    for row in read_table(path, ("filename", "label")):
        video = row["filename"]
        if row["label"].casefold() not in listed:
            split.dropped[video] = row["label"]
        elif video in split.subsets:
            raise PipelineError(f"{path}: video {video!r} stands in {split.subsets[video]} and {subset}, expected one")
        else:
            split.subsets[video], split.classes[video] = subset, row["label"]


def read_split_table(path: Path, dataset: str, pretraining: Collection[str]) -> PublishedSplit:
    """A split from one table with the columns video_id,class_name,subset; roles follow from where a class's videos are.

    Where pre-training saw YouTube-8M, classes that the dataset's decision table marks as known from it are not used.
    Raises SettingsError for an unknown subset, a repeated video and a class in subsets that exclude each other.
    """
    split = PublishedSplit({}, {}, {}, {})
    unused = _known_from_youtube8m(dataset) if "youtube8m" in pretraining else frozenset()
    order = {"train": "train", "val_seen": "train", "val_unseen": "val_unseen", "test_unseen": "test_unseen"}
    for row in read_table(path, ("video_id", "class_name", "subset")):
        video, name, subset = row["video_id"], row["class_name"], row["subset"]
        if subset not in SUBSETS or video in split.classes:
            raise SettingsError(
                f"{path}: found subset {subset!r} for video {video!r}, expected each video once, in one of "
                f"{', '.join(SUBSETS)}"
            )
        split.classes[video] = name
        if name.casefold() in unused:
            split.dropped[video] = name
            continue
        split.subsets[video] = subset
        role = order.get(subset)
        if role and split.roles.setdefault(name.casefold(), role) != role:
            raise SettingsError(
                f"{path}: class {name!r} has {role} and {split.roles[name.casefold()]} videos, expected one role"
            )
    return split


def _known_from_youtube8m(dataset: str) -> frozenset[str]:
    rows = decision_tables.of_project((), dataset).values()
    return frozenset(
        row.class_name.casefold() for row in rows if (row.pretraining, row.overlap) == ("youtube8m", "yes")
    )
