"""A benchmark file written in the folder layout of the released features (see ``published_layout``)."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import h5py
import numpy as np

from pipeline import h5, restricted_pickle, schemas
from pipeline.errors import ArtefactError
from pipeline.labels import VECTOR_FILES
from pipeline.published_layout import feature_folder
from pipeline.published_split import FILES, VARIANTS

# It repeats three subsets, and is not read by the released loader.
RETRAIN_SPLIT, RETRAIN_SUBSETS = "stage_2_train", ("train", "val_seen", "val_unseen")
# In an exported folder: the content id of the benchmark that it was made from.
MADE_FROM = "benchmark_sha256.txt"


def export_features(benchmark_path: Path, folder: Path, feature_set: str, dataset: str) -> None:
    """Write the published layout, ``class-split`` included, so that the released code can train on these features.

    The text dictionary and its ``manual`` names are the class names: sorted alike, so that the released loader, which
    pairs both by position, gives every class the very vector that the benchmark has for it, whatever its label order.
    The label texts stand in a further column, the content id of the benchmark in the file ``MADE_FROM``. The features
    appear all at once, last. Raises ArtefactError if ``folder`` already has such features.
    """
    final = feature_folder(folder, feature_set)
    if final.exists():
        raise ArtefactError(f"{final}: found features there, expected an empty place; give another folder")
    base = final.with_name(f".{final.name}.partial")
    shutil.rmtree(base, ignore_errors=True)
    with h5.read(benchmark_path, schemas.BENCHMARK) as file:
        content = file.attributes["content_sha256"]
        names, texts, roles, vectors = (file[f"class_{name}"] for name in ("name", "text", "role", "vector"))
        ids, index, subset, audio, video = (file[name] for name in ("id", "class_index", "subset", "audio", "video"))
    strange = [name for name in names.tolist() if "/" in name or name in (".", "..", "")]
    if strange:
        raise ArtefactError(f"{benchmark_path}: class {strange[0]!r} can't be a file name, expected none with '/'")
    places = [(split, (name,)) for name, split in FILES.items()] + [(RETRAIN_SPLIT, RETRAIN_SUBSETS)]
    for split, subsets in places:
        for label, rows in by_class(index, np.isin(subset, subsets)):
            for kind, values in (("audio", audio), ("video", video)):
                write_file(base / kind / split / f"{names[label]}.h5", values[rows], ids[rows].tolist())
    text_name = Path(VECTOR_FILES.get(dataset, f"word_embeddings_{dataset}_normed.npy")).name
    (base / "text").mkdir(parents=True)
    # plain numbers: NumPy 2's arrays can't be unpickled by the NumPy 1 that the released code runs on
    restricted_pickle.dump(dict(zip(names.tolist(), vectors.tolist(), strict=True)), base / "text" / text_name)
    write_classes(Path(folder) / "class-split", feature_set, dataset, names.tolist(), texts.tolist(), roles.tolist())
    (base / MADE_FROM).write_text(content)
    os.replace(base, final)


def by_class(index: np.ndarray, chosen: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    for label in np.unique(index[chosen]):
        yield int(label), np.flatnonzero(chosen & (index == label))


def write_file(path: Path, data: np.ndarray, ids: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", locking=False) as file:
        file.create_dataset("data", data=data)
        file.create_dataset("video_urls", data=ids, dtype=h5py.string_dtype())


def write_classes(
    place: Path, feature_set: str, dataset: str, names: list[str], texts: list[str], roles: list[str]
) -> None:
    lines(place / "all_class.txt", names)
    with open(place / f"{dataset}_w2v_class_names.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("original", "manual", "text"))
        writer.writerows(zip(names, names, texts, strict=True))
    allowed: Mapping[str, tuple[str, ...]] = {
        "stage_1_train": ("train",), "stage_1_val_seen": ("train",), "stage_1_val_unseen": ("val_unseen",),
        RETRAIN_SPLIT: ("train", "val_unseen"), "stage_2_test_seen": ("train", "val_unseen"),
        "stage_2_test_unseen": ("test_unseen",),
    }
    for split, wanted in allowed.items():
        of_split = [name for name, role in zip(names, roles, strict=True) if role in wanted]
        lines(place / VARIANTS[feature_set] / f"{split}.txt", of_split)


def lines(path: Path, entries: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{entry}\n" for entry in entries), encoding="utf-8")
