"""Small artefacts of finished trainings, with known numbers, for tests of the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline import h5, schemas
from pipeline.results import ReportEntry

CLASSES = (
    "red ball bouncing", "blue square sliding", "green ring humming", "striped disc beeping", "yellow star blinking",
    "dotted cube rattling", "grey cone whistling", "white bar ticking", "purple arrow buzzing", "black cross clicking",
)
ROLES = ("train",) * 5 + ("val_unseen",) * 2 + ("test_unseen",) * 3
PER_CLASS = 20
GENERATED = {"selavi": {"name": "generated-1", "sha256": "ab" * 32, "source": "generated", "licence": "none"}}
PUBLISHED = {"selavi": {**GENERATED["selavi"], "name": "selavi_vggsound", "source": "published"}}
FAILED = (
    ("video010", 0, "train", "corrupt", "invalid data in packet 3"),
    ("video021", 1, "test_seen", "no_audio", "no stream of sound"),
    ("video150", 7, "test_unseen", "too_short", "0.4 s, expected 1 s or more"),
)


def subset_of(role: str, place: int) -> str:
    if role == "test_unseen":
        return "test_unseen"
    if place < 4:
        return "test_seen"
    return "val_unseen" if role == "val_unseen" else ("val_seen" if place < 6 else "train")


def write(path: Path, schema: h5.Schema, columns: dict, attributes: dict) -> Path:
    with h5.Output(path, schema, {"digest": f"digest of {path.stem}"}).create() as file:
        for name, values in columns.items():
            file.write(name, values)
        file.attributes.update(attributes)
    return path


def videos() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """-> ids, class per video and subset of all 200 videos."""
    labels = np.repeat(np.arange(len(CLASSES)), PER_CLASS)
    subset = np.array([subset_of(ROLES[k], place) for k in range(len(CLASSES)) for place in range(PER_CLASS)])
    return np.array([f"video{i:03}" for i in range(len(labels))]), labels, subset


def write_split(folder: Path) -> Path:
    ids, _, subset = videos()
    count = len(CLASSES)
    return write(folder / "split.h5", schemas.SPLIT, {
        "class_name": list(CLASSES), "role": list(ROLES), "overlap": np.zeros(count, bool),
        "decision/score": np.zeros(0, np.float32),
        **{f"decision/{n}": [] for n in ("class_name", "pretraining", "overlap", "label", "decided_by", "rule")},
        "id": ids, "subset": subset, "excluded": [""] * len(ids),
    }, {"kind": "curated"})


def write_benchmark(folder: Path, weights: dict = GENERATED, **attributes) -> Path:
    ids, labels, subset = videos()
    random = np.random.default_rng(0)
    here = ~np.isin(ids, [row[0] for row in FAILED])
    centre = random.random((len(CLASSES), 24))
    features = (centre[labels] + 0.35 * random.random((len(ids), 24))).astype(np.float32)[here]
    counts = {name: {"videos": int((subset == name).sum()), "with_features": int((subset[here] == name).sum())}
              for name in schemas.SUBSETS}
    failed = list(zip(*FAILED, strict=True))
    return write(folder / "benchmark.h5", schemas.BENCHMARK, {
        "class_name": list(CLASSES), "class_text": list(CLASSES), "class_role": list(ROLES),
        "class_vector": random.random((len(CLASSES), 300)).astype(np.float32), "id": ids[here],
        "class_index": labels[here].astype(np.int32), "subset": subset[here], "video": features[:, :16],
        "audio": features[:, 16:], "failed_id": failed[0], "failed_class_index": np.array(failed[1], np.int32),
        "failed_subset": failed[2], "failed_reason": failed[3], "failed_detail": failed[4],
    }, {"weights": weights, "split": "curated", "coverage": counts, "video_list_sha256": "12" * 32,
        "label_order": "corrected", "classes_without_videos": [], **attributes})


def write_stage(folder: Path, name: str, seed: int, epochs: int, chosen: int) -> Path:
    random = np.random.default_rng(seed)
    curve = 45 * (1 - np.exp(-np.arange(1, epochs + 1) / 4)) + random.normal(0, 1.5, epochs)
    values = {column: curve if name == "stage1" else np.full(epochs, np.nan)
              for column in ("seen", "unseen", "harmonic_mean", "zero_shot", "calibration")}
    loss = 2.4 * np.exp(-np.arange(epochs) / 6) + 0.4
    return write(folder / f"{name}-{seed}.h5", schemas.STAGE1 if name == "stage1" else schemas.STAGE2, {
        "loss": loss, "term_name": ["l_t"], "term": loss[:, None], "learning_rate": np.full(epochs, 1e-3), **values,
        "weight_name": ["a"], "weight_shape": ["[1]"], "weight_offset": np.array([0, 1]), "weight_value": np.zeros(1),
    }, {"chosen_epoch": chosen, "calibrations": {"theta_v": 1.2}, "seed": seed, "method": "avca", "parameters": 1})


def write_scores(folder: Path, benchmark: Path, seed: int, origin: str = "published") -> Path:
    """70 % of the test videos are right, others are taken for the next class."""
    with h5.read(benchmark, schemas.BENCHMARK) as file:
        test = np.isin(file["subset"], ["test_seen", "test_unseen"])
        ids, target = file["id"][test], file["class_index"][test]
    random = np.random.default_rng(seed)
    classes, unseen = np.arange(len(CLASSES)), np.array(ROLES) == "test_unseen"
    predicted = np.where(random.random(len(target)) < 0.6, target, (target + 1) % len(classes))
    zero_shot = np.where(unseen[target] & (random.random(len(target)) < 0.8), target, classes[unseen][0])
    of = [target == k for k in classes]
    recall = np.array([100 * (predicted[rows] == k).mean() for k, rows in zip(classes, of, strict=True)])
    recall_zero_shot = np.array([100 * (zero_shot[rows] == k).mean() for k, rows in zip(classes, of, strict=True)])
    s, u, z = recall[~unseen].mean(), recall[unseen].mean(), recall_zero_shot[unseen].mean()
    confusion = np.zeros((len(classes), len(classes)), np.int32)
    np.add.at(confusion, (target, predicted), 1)
    betas = np.linspace(0, 3, 16)
    labels = random.normal(size=(len(classes), 12)) * 3
    numbers = {"seen": s, "unseen": u, "harmonic_mean": 2 * s * u / (s + u), "zero_shot": z, "calibration": 1.2}
    return write(folder / f"scores-{seed}.h5", schemas.SCORES, {
        "output": ["theta_v", "theta_a"], **{name: np.array([value, 0.9 * value]) for name, value in numbers.items()},
        "beta": betas,
        "curve_seen": s * (1 - (betas / 3.4) ** 2) / (1 - (1.2 / 3.4) ** 2), "curve_unseen": u * (betas / 1.2) ** 0.3,
        "class_index": classes.astype(np.int32), "class_name": list(CLASSES), "class_unseen": unseen,
        "class_videos": np.array([rows.sum() for rows in of], np.int32), "class_recall": recall,
        "class_zero_shot": np.where(unseen, recall_zero_shot, np.nan), "confusion": confusion, "id": ids,
        "target": target, "predicted": predicted.astype(np.int32), "predicted_zero_shot": zero_shot.astype(np.int32),
        "embedding": (labels[target] + random.normal(size=(len(target), 12))).astype(np.float32),
        "label_embedding": labels.astype(np.float32),
    }, {"video_list_sha256": "12" * 32, "parameters": 1_690_000, "gflops": 2.1, "chosen_epoch": 7, "empty_classes": [],
        "method": "avca", "seed": seed,
        "spec": {"method": "avca", "learning_rate": 0.001, "batch_size": 64, "seed": seed, "origin": origin},
        "provenance": {"code": "v1", "host": "somewhere", "versions": {"numpy": "2.2.6", "torch": "2.11.0"}}})


def entries(
    folder: Path, seeds=(0, 1, 2), method: str = "avca", feature_set: str = "selavi", dataset: str = "demo",
    protocol: str = "corrected", deviations: str = "", origin: str = "published", **benchmark,
) -> list[ReportEntry]:
    """Write everything below ``folder``. -> one entry for each seed."""
    folder.mkdir(parents=True, exist_ok=True)
    split, data = write_split(folder), write_benchmark(folder, **benchmark)
    facts = {"dataset": dataset, "feature_set": feature_set, "method": method, "protocol": protocol,
             "deviations": deviations, "published": []}
    return [
        ReportEntry(data, write_stage(folder, "stage1", seed, 20, 15), write_stage(folder, "stage2", seed, 16, 15),
                    write_scores(folder, data, seed, origin), split, {**facts, "seed": seed})
        for seed in seeds
    ]
