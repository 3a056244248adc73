"""Everything that training needs in one file: features, label vectors, subsets, and what is missing."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import h5, pooling, schemas
from pipeline.errors import ArtefactError, PipelineError
from pipeline.schemas import SUBSETS

NEEDED_ROLES = ("train", "val_unseen", "test_unseen")


@dataclass(frozen=True)
class Join:
    """Rows of the features that have a subset (``kept``, with class and subset), and the split's videos without any."""

    kept: np.ndarray
    class_index: np.ndarray
    subset: np.ndarray
    failed_id: tuple[str, ...]
    failed_class_index: np.ndarray
    failed_subset: tuple[str, ...]


def video_list_hash(ids: Sequence[str], subsets: Sequence[str], classes: Sequence[str]) -> str:
    """-> sha256 over the sorted lines 'id, subset, class': equal for equal sets of videos, whatever their order."""
    lines = sorted("\t".join(row) for row in zip(ids, subsets, classes, strict=True))
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def join(
    feature_ids: np.ndarray, split_ids: np.ndarray, split_subset: np.ndarray, manifest_class: np.ndarray
) -> Join:
    """Match features (sorted ids) with the split (ids as in the manifest). All inputs 1-d."""
    row_of = {str(video): row for row, video in enumerate(split_ids)}
    rows = np.array([row_of.get(str(video), -1) for video in feature_ids], dtype=np.int64)
    if (rows < 0).any():
        stray = str(feature_ids[np.argmax(rows < 0)])
        raise ArtefactError(
            f"BuildBenchmark: video {stray!r} has features but is not in the manifest, expected features of this "
            "manifest; delete the clip features of this dataset and run again"
        )
    here = np.flatnonzero(split_subset[rows] != "")
    wanted = np.flatnonzero(split_subset != "")
    absent = np.setdiff1d(wanted, rows)
    absent = absent[np.argsort(split_ids[absent], kind="stable")]
    return Join(
        kept=here,
        class_index=manifest_class[rows[here]],
        subset=split_subset[rows[here]],
        failed_id=tuple(str(video) for video in split_ids[absent]),
        failed_class_index=manifest_class[absent],
        failed_subset=tuple(str(name) for name in split_subset[absent]),
    )


def coverage(present: Sequence[str], failed: Sequence[str]) -> dict[str, dict[str, int]]:
    """-> subset -> videos of the split, and how many of them have features. ``present``, ``failed``: their subsets."""
    here, gone = Counter(str(name) for name in present), Counter(str(name) for name in failed)
    return {name: {"videos": here[name] + gone[name], "with_features": here[name]} for name in SUBSETS}


def check_complete(counts: Mapping[str, Mapping[str, int]], roles: Sequence[str], where: str) -> None:
    """Raise PipelineError for a role without a class or a subset without a video: nothing could be measured."""
    for role in NEEDED_ROLES:
        if role not in roles:
            raise PipelineError(
                f"BuildBenchmark: no class of role {role} has a video with features ({where}); expected at least one: "
                "see the failures of ExtractFeatures, or add videos"
            )
    for name, count in counts.items():
        if not count["with_features"]:
            raise PipelineError(
                f"BuildBenchmark: found no features for any of the {count['videos']} videos of {name} ({where}), "
                "expected some in every subset: see the failures of ExtractFeatures, or add videos"
            )


def build(
    features_path: Path,
    labels_path: Path,
    split_path: Path,
    manifest_path: Path,
    published: frozenset[str],
    output: h5.Output,
) -> None:
    """Join features, label vectors and split.

    ``label_order`` decides which of the two label vectors a class gets. A class of which no video has features becomes
    ``unused``: its recall could not be computed, and it would only be a wrong answer.
    Raises ArtefactError if the inputs are of different manifests, PipelineError if a role or subset is left empty.
    """
    with h5.read(manifest_path, schemas.MANIFEST) as file:
        names, ids, manifest_class = file["class_name"], file["id"], file["class_index"]
    with h5.read(labels_path, schemas.LABELS) as file:
        _same(labels_path, "class_name", file["class_name"], names)
        texts = file["text"]
        vectors = file["published_vector" if "label_order" in published else "vector"]
        facts: dict[str, Any] = {"labels": file.attributes.get("backend")}
        shifted = set(file.attributes.get("shifted_by_published_order", ()))
    with h5.read(split_path, schemas.SPLIT) as file:
        _same(split_path, "class_name", file["class_name"], names)
        _same(split_path, "id", file["id"], ids)
        roles, subset = file["role"], file["subset"]
        facts["split"] = file.attributes.get("kind")
    with h5.read(features_path, schemas.VIDEO_FEATURES) as file:
        joined = join(file["id"], ids, subset, manifest_class)
        failed = [file[f"failed_{column}"] for column in ("id", "reason", "detail")]
        failures = {row[0]: row[1:] for row in zip(*failed, strict=True)}
        columns = {kind: file[kind][joined.kept] for kind in ("video", "audio")}
        columns["id"] = file["id"][joined.kept]
        facts.update({key: file.attributes[key] for key in pooling.CARRIED if key in file.attributes})
    has_video = np.isin(np.arange(len(names)), joined.class_index)
    lost = [str(name) for name in names[(roles != "unused") & ~has_video]]
    roles = np.where(has_video, roles, "unused")
    counts = coverage(joined.subset.tolist(), joined.failed_subset)
    check_complete(counts, roles.tolist(), f"{features_path}")
    facts["label_order"] = "published" if "label_order" in published else "corrected"
    used = {str(name) for name in names[roles != "unused"]} if "label_order" in published else set()
    facts["shifted_classes"] = sorted(shifted & used)
    facts["coverage"], facts["classes_without_videos"] = counts, lost
    classes = [str(names[index]) for index in joined.class_index]
    facts["video_list_sha256"] = video_list_hash(columns["id"].tolist(), joined.subset.tolist(), classes)
    with output.create() as out:
        for name, values in (("name", names), ("text", texts), ("role", roles), ("vector", vectors)):
            out.write(f"class_{name}", values)
        for name, values in {**columns, "class_index": joined.class_index, "subset": joined.subset}.items():
            out.write(name, values)
        reasons = [failures.get(video, ("not_found", "no features were made for it")) for video in joined.failed_id]
        out.write("failed_id", joined.failed_id)
        out.write("failed_class_index", joined.failed_class_index)
        out.write("failed_subset", joined.failed_subset)
        out.write("failed_reason", [reason for reason, _ in reasons])
        out.write("failed_detail", [detail for _, detail in reasons])
        out.attributes.update(facts)


def _same(path: Path, column: str, found: np.ndarray, expected: np.ndarray) -> None:
    if not np.array_equal(found, expected):
        raise ArtefactError(
            f"{path}: its column {column} differs from the manifest's, expected the same {len(expected)} entries; it "
            "was made from another manifest: delete it and run again"
        )
