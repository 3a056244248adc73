"""The folder layout of the released features, read into a benchmark file (``published_export`` writes it).

    DIR/features/{main_features,cls_features}/{audio,video}/<split>/<class>.h5   data (n, D), video_urls (n)
    DIR/features/{main_features,cls_features}/text/word_embeddings_*_normed.npy  pickled dictionary text -> (300)
    DIR/class-split/all_class.txt                                                every class, one a line
    DIR/class-split/*_w2v_class_names.csv                                        columns original (class), manual (text)
    DIR/class-split/{main_split,cls_split}/<split>.txt                           classes of a split, one a line

The text dictionary is a pickle from outside: it is read without the power to run anything.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np

from pipeline import h5, restricted_pickle
from pipeline.benchmark import coverage, video_list_hash
from pipeline.errors import ArtefactError, SettingsError
from pipeline.labels import published_rows, shifted_classes
from pipeline.published_split import FILES, ROLE_OF, VARIANTS
from pipeline.schemas import EMBEDDING_SIZE

FEATURE_FOLDERS = {"selavi": "main_features", "c3d_vggish": "cls_features"}


@dataclass(frozen=True)
class Features:
    """Videos in folder order: split, class, row. ``audio`` (N, Da), ``video`` (N, Dv): float32; the rest (N) str."""

    id: np.ndarray
    class_name: np.ndarray
    subset: np.ndarray
    audio: np.ndarray
    video: np.ndarray


def feature_folder(folder: Path, feature_set: str) -> Path:
    """-> DIR/features/<method>. Raises SettingsError for a feature set that the released code does not know."""
    if feature_set not in FEATURE_FOLDERS:
        known = ", ".join(FEATURE_FOLDERS)
        raise SettingsError(f"feature set {feature_set!r}: the published layout has no folder for it; known: {known}")
    return Path(folder) / "features" / FEATURE_FOLDERS[feature_set]


def fingerprint(folder: Path) -> str:
    """-> digest of the layout's file names, sizes and modification times."""
    digest = hashlib.sha256()
    for path in sorted(p for part in ("features", "class-split") for p in (Path(folder) / part).rglob("*")):
        if path.is_file():
            facts = path.stat()
            digest.update(f"{path.relative_to(folder)}\0{facts.st_size} {facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def read_features(folder: Path, feature_set: str) -> Features:
    """-> all videos of the five splits.

    Raises ArtefactError for a missing split, a class that one modality lacks, rows that are not those of the other
    modality, widths that differ, or a video that stands in two places.
    """
    base = feature_folder(folder, feature_set)
    columns: dict[str, list] = {name: [] for name in ("id", "class_name", "subset", "audio", "video")}
    for subset, split in FILES.items():
        for name in class_files(base, split):
            audio, audio_ids = read_file(base / "audio" / split / f"{name}.h5")
            video, video_ids = read_file(base / "video" / split / f"{name}.h5")
            if audio_ids != video_ids:
                raise ArtefactError(
                    f"{base / 'audio' / split / name}.h5: found {len(audio_ids)} videos, expected the "
                    f"{len(video_ids)} of the same file under video, in the same order"
                )
            columns["audio"].append(audio)
            columns["video"].append(video)
            columns["id"] += audio_ids
            columns["class_name"] += [name] * len(audio_ids)
            columns["subset"] += [subset] * len(audio_ids)
    twice = [name for name, count in Counter(columns["id"]).items() if count > 1]
    if twice:
        raise ArtefactError(f"{base}: found video {twice[0]!r} in more than one place, expected each video once")
    stacked = {}
    for kind in ("audio", "video"):
        widths = sorted({part.shape[1] for part in columns[kind]})
        if len(widths) != 1:
            raise ArtefactError(f"{base / kind}: found features of widths {widths}, expected one width in all files")
        stacked[kind] = np.concatenate(columns[kind])
    texts = {name: np.array(columns[name], dtype=str) for name in ("id", "class_name", "subset")}
    return Features(**texts, **stacked)


def class_files(base: Path, split: str) -> list[str]:
    """-> sorted class names of a split. Raises ArtefactError if a folder is missing or the modalities differ."""
    found = {}
    for kind in ("audio", "video"):
        place = base / kind / split
        if not place.is_dir():
            raise ArtefactError(f"{place}: no such folder; expected the published layout with {split} under {kind}")
        found[kind] = {path.stem for path in place.glob("*.h5")}
    lacking = found["audio"] ^ found["video"]
    if lacking:
        name = min(lacking)
        raise ArtefactError(
            f"{base}: found {split}/{name}.h5 under {'audio' if name in found['audio'] else 'video'} only, expected it "
            "under audio and video"
        )
    if not found["audio"]:
        raise ArtefactError(f"{base / 'audio' / split}: found no class file, expected one or more <class>.h5")
    return sorted(found["audio"])


def read_file(path: Path) -> tuple[np.ndarray, list[str]]:
    """-> features (n, D) float32 and video names (n) of one class file."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            data, urls = np.asarray(file["data"][()]), file["video_urls"][()]
    except (OSError, KeyError, RuntimeError) as error:
        raise ArtefactError(f"{path}: can't be read ({error}); expected the datasets data and video_urls") from error
    names = [url.decode("utf-8") if isinstance(url, bytes) else str(url) for url in urls]
    if data.ndim != 2 or len(data) != len(names):
        raise ArtefactError(
            f"{path}: found data of shape {data.shape} and {len(names)} video_urls, expected one row for each"
        )
    return data.astype(np.float32), names


def read_vectors(folder: Path, feature_set: str) -> dict[str, np.ndarray]:
    """-> text -> vector (300) float32. Raises ArtefactError for a missing or strange dictionary."""
    place = feature_folder(folder, feature_set) / "text"
    found = sorted(place.glob("word_embeddings_*_normed.npy"))
    if len(found) != 1:
        raise ArtefactError(f"{place}: found {len(found)} files word_embeddings_*_normed.npy, expected one")
    table = restricted_pickle.load(found[0])
    if not isinstance(table, dict):
        raise ArtefactError(f"{found[0]}: found a {type(table).__name__}, expected a dictionary text -> vector")
    vectors = {str(text): np.asarray(vector, dtype=np.float32) for text, vector in table.items()}
    for text, vector in vectors.items():
        if vector.shape != (EMBEDDING_SIZE,):
            raise ArtefactError(f"{found[0]}: found shape {vector.shape} for {text!r}, expected ({EMBEDDING_SIZE},)")
    return vectors


def read_texts(folder: Path) -> dict[str, str]:
    """-> class name -> its key of the text dictionary, of all classes, used or not (names compared in lower case)."""
    place = Path(folder) / "class-split"
    names_file, tables = place / "all_class.txt", sorted(place.glob("*_w2v_class_names.csv"))
    if not names_file.is_file() or len(tables) != 1:
        raise ArtefactError(
            f"{place}: found {'a' if names_file.is_file() else 'no'} all_class.txt and {len(tables)} files "
            "*_w2v_class_names.csv, expected one of each, as the released code has them"
        )
    names = sorted(line.strip() for line in names_file.read_text(encoding="utf-8").splitlines() if line.strip())
    with open(tables[0], newline="", encoding="utf-8") as file:
        manual = {row["original"].strip().lower(): row["manual"].strip() for row in csv.DictReader(file)}
    absent = [name for name in names if name.lower() not in manual]
    if absent:
        raise ArtefactError(f"{tables[0]}: found no row for class {absent[0]!r}, expected one for each of {names_file}")
    return {name: manual[name.lower()] for name in names}


def with_listed_names(features: Features, names: Collection[str], folder: Path) -> Features:
    """-> the same, with classes called as in all_class.txt: the released files of UCF write some in other capitals.

    Raises ArtefactError for a class that is not listed.
    """
    listed = {name.casefold(): name for name in names}
    found = features.class_name.tolist()
    called = {name: name if name in names else listed.get(name.casefold(), "") for name in set(found)}
    stray = sorted(name for name in called if not called[name])
    if stray:
        raise ArtefactError(f"{folder}: found features of class {stray[0]!r}, expected a class of all_class.txt")
    return replace(features, class_name=np.array([called[name] for name in found]))


def roles_of(features: Features, names: Sequence[str], folder: Path, feature_set: str) -> list[str]:
    """-> role of each class: what its videos say. Unseen test classes that cls_split leaves out become ``unused``."""
    roles = {}
    for subset, role in ROLE_OF.items():
        roles.update(dict.fromkeys(features.class_name[features.subset == subset].tolist(), role))
    listed = Path(folder) / "class-split" / VARIANTS[feature_set] / f"{FILES['test_unseen']}.txt"
    if listed.is_file():
        kept = {line.strip().casefold() for line in listed.read_text(encoding="utf-8").splitlines() if line.strip()}
        roles = {name: role for name, role in roles.items() if role != "test_unseen" or name.casefold() in kept}
    return [roles.get(name, "unused") for name in names]


def import_features(folder: Path, feature_set: str, published: frozenset[str], output: h5.Output) -> None:
    """Write schemas.BENCHMARK from the published layout at ``folder``.

    Videos are sorted by id if every class file is, else kept in folder order, so that ``export_features`` gives the
    files back row for row. ``label_order`` decides which vector of the dictionary a class gets.
    """
    vectors, texts = read_vectors(folder, feature_set), read_texts(folder)
    features = with_listed_names(read_features(folder, feature_set), texts, folder)
    by_order = "label_order" in published
    key_of = published_rows(texts) if by_order else texts
    names = sorted(texts)
    roles = roles_of(features, names, folder, feature_set)
    used = {name for name, role in zip(names, roles, strict=True) if role != "unused"}
    absent = sorted(key_of[name] for name in used if key_of[name] not in vectors)
    if absent:
        raise ArtefactError(f"{folder}: found no vector for the text {absent[0]!r}, expected one for each used class")
    rows = np.flatnonzero(np.isin(features.class_name, sorted(used)))
    if files_are_sorted(features):
        rows = rows[np.argsort(features.id[rows], kind="stable")]
    none = np.zeros(EMBEDDING_SIZE, np.float32)
    with output.create() as file:
        file.write("class_name", names)
        file.write("class_text", [texts[name] for name in names])
        file.write("class_role", roles)
        file.write("class_vector", np.stack([vectors.get(key_of[name], none) for name in names]))
        file.write("id", features.id[rows])
        file.write("class_index", np.searchsorted(np.array(names), features.class_name[rows]))
        file.write("subset", features.subset[rows])
        file.write("video", features.video[rows])
        file.write("audio", features.audio[rows])
        for name in ("id", "subset", "reason", "detail"):
            file.write(f"failed_{name}", [])
        file.write("failed_class_index", np.zeros(0, np.int32))
        file.attributes.update(
            labels="published layout", label_order="published" if by_order else "corrected", split="published layout",
            shifted_classes=sorted(used & set(shifted_classes(texts))) if by_order else [],
            coverage=coverage(features.subset[rows].tolist(), ()), classes_without_videos=[],
            video_list_sha256=video_list_hash(
                features.id[rows].tolist(), features.subset[rows].tolist(), features.class_name[rows].tolist()
            ),
        )


def files_are_sorted(features: Features) -> bool:
    """-> whether the videos of every class file are in ascending order."""
    place = np.char.add(np.char.add(features.subset, "/"), features.class_name)
    inside = place[1:] == place[:-1]
    return bool((features.id[1:][inside] > features.id[:-1][inside]).all())
